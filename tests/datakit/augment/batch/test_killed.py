"""Runs that are killed while batches are out, or at the very moment one is made: the next run takes them up."""

from __future__ import annotations

import signal

import pytest

from datakit.augment.batch.notes import Notes, notes_path
from tests.datakit.augment.batch.hand import (
    KEY,
    PROVIDERS,
    augment,
    batches_made,
    files_of,
    killed,
    running,
    seeds,
    until,
)
from tests.datakit.faults.server import FaultServer

each_provider = pytest.mark.parametrize("provider", PROVIDERS)
STORE = "out.jsonl.store.sqlite"
NOTES = STORE + ".batches"
# A process that kills itself at one moment of making a batch.
KILLS = """
import os, signal
def at(owner, name, before):
    inner = getattr(owner, name)
    def killing(*given, **named):
        found = None if before else inner(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return found
    setattr(owner, name, killing)
"""
MOMENTS = {
    "before the upload": ("VendorDesk, 'upload', True", 0),
    "before the note": ("Notes, 'intend', True", 0),
    "after the note": ("Notes, 'intend', False", 0),
    "after it was made": ("VendorDesk, 'create', False", 1),
    "after its id was noted": ("Notes, 'know', False", 1),
    "when it is looked at": ("VendorDesk, 'look', False", 1),
    "when its answers came": ("VendorDesk, 'fetch', False", 1),
    "before it is forgotten": ("Notes, 'forget', True", 1),
}


@each_provider
def test_a_run_that_is_killed_while_it_waits_finds_its_batch_again(tmp_path, provider):
    seeds(tmp_path, 5)
    with FaultServer("batch_slow", batch={"validating_s": 0.1, "running_s": 4.0, "finalizing_s": 0.1}) as server:
        with running(tmp_path, server, provider=provider) as process:
            notes = notes_path(tmp_path / STORE)
            assert until(lambda: notes.exists() and any(note.id for note in Notes(notes).all()))
            killed(process)
        assert (batches_made(server), server.stats.batched) == (1, [])
        assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())
        ended = augment(tmp_path, server, provider)
        assert (ended.rows_out, ended.exit_code) == (10, 0)
        assert (batches_made(server), len(server.stats.batched), server.stats.requests) == (1, 5, [])
    assert NOTES not in files_of(tmp_path)


@pytest.mark.parametrize("moment", MOMENTS)
def test_at_whatever_moment_it_is_killed_no_batch_is_made_twice(tmp_path, moment):
    seeds(tmp_path, 3)
    where, made = MOMENTS[moment]
    with FaultServer("batch_ok") as server:
        with running(tmp_path, server, f"{KILLS}\nat({where})\n") as process:
            assert process.wait(60) == -signal.SIGKILL
        assert batches_made(server) == made
        ended = augment(tmp_path, server)
        assert (ended.rows_out, ended.exit_code) == (6, 0)
        assert (batches_made(server), len(server.stats.batched)) == (1, 3)
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_zhipu_finds_by_its_tag_what_was_made_just_before_the_end(tmp_path):
    seeds(tmp_path, 3)
    with FaultServer("batch_ok") as server:
        with running(tmp_path, server, f"{KILLS}\nat(VendorDesk, 'create', False)\n", "zhipu") as process:
            assert process.wait(60) == -signal.SIGKILL
        ended = augment(tmp_path, server, "zhipu")
        assert (ended.rows_out, batches_made(server), len(server.stats.batched)) == (6, 1, 3)


def test_rows_added_since_go_into_a_batch_of_their_own(tmp_path):
    seeds(tmp_path, 3)
    with FaultServer("batch_ok") as server:
        with running(tmp_path, server, f"{KILLS}\nat(Notes, 'know', False)\n") as process:
            process.wait(60)
        seeds(tmp_path, 5)
        ended = augment(tmp_path, server)
        assert ended.rows_out == 10
        sizes = [len(batch.lines) for batch in server._serving._batches._batches.values()]
        assert sizes == [3, 2]
        assert server.stats.answered_twice == {}
