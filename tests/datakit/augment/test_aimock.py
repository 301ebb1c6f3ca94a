"""Runs against a server that others wrote, honest and in all its kinds of chaos; skipped where node is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datakit.augment.runs import read, rejects, run, seeds, write
from tests.datakit.faults.aimock import running_aimock


@pytest.fixture(autouse=True)
def here(folder: Path) -> Path:
    return folder


def test_all_rows_come_through_chaos_and_a_second_run_asks_nothing():
    write(Path("seeds.jsonl"), seeds(30))
    with running_aimock() as server:
        server.set_chaos(drop=0.1, malformed=0.1, disconnect=0.1, ratelimit=0.05)
        outcome = run(server.url, recipe="expand", n=1, attempts=12, allow=("duplicate", "near-duplicate"))
        assert outcome.exit_code == 0
        assert not rejects()
        assert [row["_origin"]["seed_row"] for row in read("more.jsonl")] == list(range(1, 31))
        met = {entry["response"].get("chaosAction") for entry in server.journal()} - {None}
        assert {"drop", "malformed", "disconnect"} <= met
        asked = len(server.journal())
        assert asked > 30
        server.clear_chaos()
        run(server.url, recipe="expand", n=1, allow=("duplicate", "near-duplicate"))
        assert len(server.journal()) == asked
