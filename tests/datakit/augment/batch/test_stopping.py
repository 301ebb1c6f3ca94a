"""What ends a run with --batch early: Ctrl-C, budgets, keys; batches that are out stay there, and are taken up."""

from __future__ import annotations

import signal

import pytest

from datakit.augment.budget import Limits
from registry.errors import UsageError
from tests.datakit.augment.batch.hand import KEY, augment, batches_made, running, seeds, stops, told, until
from tests.datakit.faults.server import FaultServer

SLOW = {"validating_s": 0.0, "running_s": 3.0, "finalizing_s": 0.0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_the_batch_to_the_next_run_and_says_so(tmp_path, number):
    seeds(tmp_path, 4)
    with FaultServer("batch_slow", batch=SLOW) as server:
        with running(tmp_path, server) as process:
            assert until(lambda: batches_made(server) == 1)
            assert until(lambda: any(seen.path.endswith("/batch_000001") for seen in server.stats.others))
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "1 batch with 4 requests left at the server (batch_000001)" in errors
        assert "the same command takes in the answers" in errors
        assert KEY not in errors
        assert not (tmp_path / "out.jsonl").exists()
        assert augment(tmp_path, server).rows_out == 8
        assert (batches_made(server), len(server.stats.batched)) == (1, 4)


def test_no_more_is_sent_than_the_budget_of_requests_allows(tmp_path):
    seeds(tmp_path, 6)
    with FaultServer("batch_ok") as server:
        ended = augment(tmp_path, server, limits=Limits(requests=4))
        assert (ended.rows_out, ended.exit_code) == (8, 3)
        assert (batches_made(server), len(server.stats.batched)) == (1, 4)
        assert told(ended)["stopped"].startswith("--budget-requests is used up.")
        assert augment(tmp_path, server).rows_out == 12
        assert len(server.stats.batched) == 6


def test_a_budget_of_tokens_is_kept_with_what_the_first_batch_took(tmp_path):
    seeds(tmp_path, 20)
    with FaultServer("batch_ok") as server:
        ended = augment(tmp_path, server, limits=Limits(tokens=6000), max_tokens=200)
        assert ended.exit_code == 3
        assert 0 < ended.rows_out < 40
        assert told(ended)["stopped"].startswith("--budget-tokens is used up.")
        assert batches_made(server) >= 2  # answers took less than was kept free for them
        calls = told(ended)["calls"]
        assert 3000 < calls["prompt_tokens"] + calls["completion_tokens"] <= 6000


def test_when_the_minutes_are_over_batches_are_left_at_the_server(tmp_path):
    seeds(tmp_path, 3)
    with FaultServer("batch_slow", batch=SLOW) as server:
        assert stops(tmp_path, server, limits=Limits(minutes=0.015)).startswith("--budget-minutes")
        assert batches_made(server) == 1
        assert augment(tmp_path, server).rows_out == 6
        assert (batches_made(server), len(server.stats.batched)) == (1, 3)


def test_a_wrong_key_is_a_matter_of_usage(tmp_path):
    seeds(tmp_path, 2)
    with FaultServer("wrong_key") as server, pytest.raises(UsageError, match="does not take the key") as raised:
        augment(tmp_path, server)
    assert KEY not in str(raised.value)


def test_a_quota_that_is_used_up_stops_the_run(tmp_path):
    seeds(tmp_path, 2)
    with FaultServer({"rules": [{"do": "quota"}]}) as server:
        assert "exceeded your current quota" in stops(tmp_path, server)
        assert batches_made(server) == 0


def test_another_key_takes_up_what_the_first_one_made(tmp_path, monkeypatch):
    seeds(tmp_path, 3)
    with FaultServer("batch_slow", batch={**SLOW, "running_s": 1.5}) as server:
        stops(tmp_path, server, limits=Limits(minutes=0.01))
        monkeypatch.setenv("OPENAI_API_KEY", "another")
        assert augment(tmp_path, server).rows_out == 6
        assert (batches_made(server), len(server.stats.batched)) == (1, 3)


def test_requests_that_are_mostly_refused_stop_the_run(tmp_path):
    seeds(tmp_path, 30, " poison")
    with FaultServer("all_fail_400", batch={"validating_s": 0.0, "running_s": 0.1}) as server:
        assert stops(tmp_path, server).startswith("30 of 30 requests were refused. For example: refused")
        assert len(server.stats.batched) == 30
