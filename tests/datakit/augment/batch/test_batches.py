"""Whole runs with --batch at both vendors: each answer comes once, and only what has none is sent again."""

from __future__ import annotations

import json

import pytest

from datakit.augment.store import AnswerStore
from tests.datakit.augment.batch.hand import (
    KEY,
    PROVIDERS,
    augment,
    batches_made,
    files_of,
    seeds,
    stops,
    told,
    url_of,
)
from tests.datakit.faults.server import FaultServer, key_hash

each_provider = pytest.mark.parametrize("provider", PROVIDERS)


@each_provider
def test_all_answers_come_in_one_batch_and_a_second_run_asks_nothing(tmp_path, provider):
    seeds(tmp_path, 6)
    with FaultServer("batch_ok") as server:
        ended = augment(tmp_path, server, provider)
        assert (ended.rows_out, ended.exit_code) == (12, 0)
        assert (batches_made(server), len(server.stats.batched), server.stats.requests) == (1, 6, [])
        assert server.stats.answered_twice == {}
        assert {seen.key for seen in (*server.stats.batched, *server.stats.others)} == {key_hash(KEY)}
        rows = (tmp_path / "out.jsonl").read_bytes()
        seen = len(server.stats.others)
        again = augment(tmp_path, server, provider)
        assert (again.rows_out, len(server.stats.others)) == (12, seen)
        assert (tmp_path / "out.jsonl").read_bytes() == rows
    assert files_of(tmp_path) == ["out.jsonl", "out.jsonl.manifest.json", "out.jsonl.store.sqlite", "seeds.jsonl"]
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())


@each_provider
def test_the_input_is_what_the_vendor_wants(tmp_path, provider):
    seeds(tmp_path, 1)
    endpoint = {"openai": "/v1/chat/completions", "zhipu": "/v4/chat/completions"}[provider]
    with FaultServer("batch_ok") as server:
        augment(tmp_path, server, provider)
        desk = server._serving._batches
        (batch,) = desk._batches.values()
        (line,) = (json.loads(line) for line in desk._files[batch.input].data.splitlines())
    assert (batch.endpoint, batch.window, list(batch.metadata)) == (endpoint, "24h", ["tunekit"])
    assert (line["method"], line["url"], line["body"]["model"]) == ("POST", endpoint, "m1")
    with AnswerStore(tmp_path / "out.jsonl.store.sqlite") as store:
        stored = store.get(line["custom_id"])
    assert stored is not None
    assert json.loads(stored.request)["messages"][-1][1] == line["body"]["messages"][-1]["content"]
    assert (stored.provider, stored.status, stored.attempts) == (provider, 200, 1)
    assert url_of(server, provider).encode() in stored.request


@each_provider
def test_recipes_of_several_calls_take_a_wave_for_each(tmp_path, provider):
    seeds(tmp_path, 4)
    with FaultServer("batch_ok") as server:
        ended = augment(tmp_path, server, provider, "evolve", n=2)
        assert (ended.rows_out, ended.exit_code) == (8, 0)
        assert (batches_made(server), len(server.stats.batched)) == (3, 16)
        assert server.stats.answered_twice == {}


@each_provider
def test_what_fails_in_a_batch_is_sent_again_and_nothing_else(tmp_path, provider):
    seeds(tmp_path, 12)
    with FaultServer("batch_partial") as server:
        ended = augment(tmp_path, server, provider)
        assert (ended.rows_out, ended.exit_code) == (24, 0)
        assert server.stats.answered_twice == {}
        assert server.stats.answered == 12
        failed = sum(told(ended)["attempts_failed"].values()) + told(ended)["rate_limits"]
        assert len(server.stats.batched) == 12 + failed
        assert failed >= 1
        assert batches_made(server) >= 2


def test_what_the_server_refuses_for_good_costs_one_attempt_and_is_kept(tmp_path):
    path = seeds(tmp_path, 4)
    path.write_text(path.read_text().replace("tray number 2", "poison number 2"))
    with FaultServer(
        {"rules": [{"when": {"contains": "poison"}, "do": {"action": "status", "status": 400}}]}
    ) as server:
        ended = augment(tmp_path, server)
        assert (ended.rows_out, ended.num_rejected, ended.exit_code) == (6, 1, 0)
        assert len(server.stats.batched) == 4
        augment(tmp_path, server)
        assert len(server.stats.batched) == 4


@each_provider
def test_of_an_expired_batch_only_the_rest_is_sent_again(tmp_path, provider):
    seeds(tmp_path, 10)
    with FaultServer("batch_expired", batch={"done": 0.6}) as server:
        ended = augment(tmp_path, server, provider, attempts=5)
        # 10 requests, of which 6 are done, then 2 of 4, 1 of 2, and none of the last one alone.
        sizes = [len(batch.lines) for batch in server._serving._batches._batches.values()]
        assert sizes == [10, 4, 2, 1, 1]
        assert (ended.rows_out, ended.exit_code) == (18, 3)
        assert (server.stats.answered, server.stats.answered_twice) == (9, {})
        server.use("batch_ok")
        again = augment(tmp_path, server, provider)
        assert (again.rows_out, again.exit_code) == (20, 0)
        assert (server.stats.answered, server.stats.answered_twice) == (10, {})


@each_provider
def test_a_batch_that_the_server_refuses_ends_the_run_with_its_reason(tmp_path, provider):
    seeds(tmp_path, 4)
    with FaultServer("batch_failed") as server:
        why = stops(tmp_path, server, provider=provider)
        sizes = [len(batch.lines) for batch in server._serving._batches._batches.values()]
        assert sizes[0] == 4
        assert sizes[-1] == 1  # too many tokens were waiting: smaller ones were tried
        assert server.stats.batched == []
    assert why == "a batch was refused: token_limit_exceeded: Too many tokens are waiting"
    assert not (tmp_path / "out.jsonl.store.sqlite.batches").exists()


def test_a_server_without_batches_is_named_as_such(tmp_path):
    seeds(tmp_path, 1)
    with FaultServer() as server:
        bare = type("Bare", (), {"url": f"{server.root}/elsewhere", "zhipu_url": ""})()
        assert stops(tmp_path, bare).endswith("Perhaps this server has no batch endpoint: leave --batch out")


def test_a_parameter_that_the_server_refuses_is_left_out_of_the_next_batch(tmp_path):
    seeds(tmp_path, 3)
    refuse = {
        "when": {"first": 3},
        "do": {
            "action": "status",
            "status": 400,
            "message": "Unsupported parameter: response_format of type json_schema is not supported.",
        },
    }
    with FaultServer({"rules": [refuse], "batch": {"validating_s": 0.0, "running_s": 0.1}}) as server:
        ended = augment(tmp_path, server)
        assert (ended.rows_out, ended.exit_code) == (6, 0)
        forms = [json.loads(seen.body).get("response_format", {}).get("type") for seen in server.stats.batched]
    assert forms == ["json_schema"] * 3 + ["json_object"] * 3


def test_batches_of_several_keys_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEYS", "first, second")
    seeds(tmp_path, 4)
    with FaultServer("batch_ok") as server:
        augment(tmp_path, server, recipe="evolve")
        makers = [seen.key for seen in server.stats.others if seen.action == "POST" and seen.path.endswith("/batches")]
    assert makers == [key_hash("first"), key_hash("second"), key_hash("first")]
