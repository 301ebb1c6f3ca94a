"""Runs that are killed, interrupted, or out of room: what was paid for is kept, and the next run goes on from there."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datakit.augment.budget import Limits
from datakit.augment.store import AnswerStore
from datakit.augment.store.layout import wal_path
from registry.errors import UsageError
from tests.datakit.augment.runs import Started, augment, read, run, seeds, started, write
from tests.datakit.faults.server import FaultServer

WORKERS = 8
STORE = Path("more.jsonl.store.sqlite")


@pytest.fixture(autouse=True)
def here(folder: Path) -> Path:
    return folder


def until(holds: Callable[[], bool], run: Started) -> None:
    """Wait until it holds, or the run has ended."""
    end = time.monotonic() + 60
    while not holds() and run.alive:
        assert time.monotonic() < end
        time.sleep(0.002)


def kept() -> int:
    with AnswerStore(STORE) as store:
        return store.count()


def ids() -> list[int]:
    return [row["id"] for row in read("more.jsonl")]


def test_a_run_killed_at_any_moment_asks_again_only_for_what_was_on_its_way():
    count, rng = 70, random.Random(4)
    write(Path("seeds.jsonl"), seeds(count))
    with FaultServer(latency_s={"uniform": [0.02, 0.08]}) as server:
        kills = 0
        for _ in range(4):
            before = len(server.stats.requests)
            with started(*augment(server.url, "--workers", WORKERS)) as going:
                until(lambda b=before, n=rng.randrange(1, 20): len(server.stats.requests) >= b + n, going)
                time.sleep(rng.random() / 20)
                going.signal(signal.SIGKILL)
                kills += going.wait() == -signal.SIGKILL
            assert not Path("more.jsonl").exists()
        assert kills == 4
        assert run(server.url, workers=WORKERS).exit_code == 0
        assert ids() == list(range(count))
        again = sum(times - 1 for times in server.stats.answered_twice.values())
        assert again <= kills * 2 * WORKERS  # on the way, and come in since the last sync of the disk
        asked = len(server.stats.requests)
        run(server.url)
        assert len(server.stats.requests) == asked
    assert sorted(path.name for path in Path().iterdir()) == [
        "more.jsonl", "more.jsonl.manifest.json", STORE.name, "seeds.jsonl",
    ]  # fmt: skip


def test_an_answer_that_the_store_holds_is_never_asked_for_again_after_a_kill():
    write(Path("seeds.jsonl"), seeds(40))
    with FaultServer(latency_s=0.05) as server:
        with started(*augment(server.url, "--workers", WORKERS)) as going:
            until(lambda: server.stats.answered >= 20, going)
            going.signal(signal.SIGKILL)
            going.wait()
        held = kept()
        asked = len(server.stats.requests)
        run(server.url)
        assert len(server.stats.requests) == asked + 40 - held
        assert held >= 20 - 2 * WORKERS


def test_ctrl_c_waits_for_the_answers_on_their_way_and_the_next_run_goes_on():
    write(Path("seeds.jsonl"), seeds(40))
    with FaultServer(latency_s=0.3) as server:
        with started(*augment(server.url, "--workers", WORKERS)) as going:
            until(lambda: server.stats.answered >= WORKERS, going)
            until(lambda: server.stats.pending >= WORKERS, going)
            going.signal(signal.SIGINT)
            assert going.wait() == 130
            assert "answers that are on their way and paid for; Ctrl-C again leaves at once" in going.err
            assert "Traceback" not in going.err + going.out
        assert not Path("more.jsonl").exists()
        assert not wal_path(STORE).exists()
        assert kept() == server.stats.answered == len(server.stats.requests)
        assert run(server.url).exit_code == 0
        assert ids() == list(range(40))
        assert server.stats.answered == 40


def test_ctrl_c_twice_leaves_at_once_without_a_traceback():
    write(Path("seeds.jsonl"), seeds(40))
    with FaultServer({"rules": [{"when": {"after": 12}, "do": {"action": "late", "delay_s": 60.0}}]}) as server:
        with started(*augment(server.url, "--workers", WORKERS)) as going:
            until(lambda: server.stats.pending >= 4, going)
            going.signal(signal.SIGINT)
            until(lambda: "Ctrl-C again" in going.err, going)
            going.signal(signal.SIGINT)
            assert going.wait() == 130
            assert "Traceback" not in going.err + going.out
        assert kept() == server.stats.answered
        server.use("honest")
        assert run(server.url).exit_code == 0
        assert server.stats.answered_twice == {}


def test_two_runs_at_once_on_one_store_are_not_possible_and_harm_nothing():
    write(Path("seeds.jsonl"), seeds(24))
    with FaultServer({"rules": [{"when": {"after": 12}, "do": {"action": "late", "delay_s": 1.5}}]}) as server:
        with started(*augment(server.url, "--workers", 64)) as first:
            until(lambda: server.stats.answered >= 12, first)
            with started(*augment(server.url, "--store", STORE, out="other.jsonl")) as second:
                assert second.wait() == 2
                assert f"another run writes into this store: process {first.process.pid} on " in second.err
            assert first.wait() == 0
        assert ids() == list(range(24))
        assert server.stats.answered_twice == {}
        assert run(server.url, out="other.jsonl", store=STORE).exit_code == 0
        assert len(server.stats.requests) == 24


def test_a_store_that_may_only_be_read_serves_a_run_that_it_has_all_answers_for():
    write(Path("seeds.jsonl"), seeds(6))
    small = Path("small")
    small.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", "small"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with FaultServer() as server:
            store = {"store": small / "answers.sqlite"}
            run(server.url, **store)
            subprocess.run(["mount", "-o", "remount,ro", "small"], check=True)
            before = read("more.jsonl")
            assert run(server.url, **store).exit_code == 0
            assert read("more.jsonl") == before
            write(Path("seeds.jsonl"), seeds(7))
            with pytest.raises(UsageError, match="cannot be opened or written"):
                run(server.url, **store)
            assert len(server.stats.requests) == 6  # nothing is paid for that cannot be kept
            assert read("more.jsonl") == before
    finally:
        subprocess.run(["umount", "-l", "small"], check=True)


def test_a_disk_that_fills_up_ends_the_run_with_what_is_kept_and_room_is_all_it_needs():
    """Files may not grow beyond a size: what a full disk says, without one."""
    write(Path("seeds.jsonl"), seeds(120))
    say = {"rules": [{"do": {"action": "huge", "megabytes": 0.1}}]}

    with FaultServer(say) as server:
        with started(*augment(server.url, "--workers", WORKERS), most_bytes=1_300_000) as going:
            assert going.wait() == 3
            assert "Traceback" not in going.err
            assert "run the same command again" in going.err
        held = kept()
        assert held > 0
        assert held >= server.stats.answered - 4 * WORKERS
        server.use("honest")
        asked = len(server.stats.requests)
        run(server.url)
        assert len(server.stats.requests) - asked <= 120 - held + 120  # huge answers may ask to be corrected
        assert kept() >= 120 - held


def test_a_budget_stops_drains_and_writes_what_there_is():
    write(Path("seeds.jsonl"), seeds(30))
    with FaultServer(latency_s=0.02) as server:
        first = run(server.url, limits=Limits(requests=10))
        assert first.exit_code == 3
        assert first.details["stopped"].startswith("--budget-requests is used up.")
        assert first.rows_out == len(ids()) == len(server.stats.requests) == 10
        assert run(server.url).exit_code == 0
        assert ids() == list(range(30))
        assert len(server.stats.requests) == 30
