"""Runs that are killed while they write, and runs that meet at one store: nothing that was told is lost, one may write."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datakit.augment.store import AnswerStore
from datakit.augment.store.layout import wal_path
from datakit.augment.store.salvage import count_whole
from registry.errors import UsageError
from tests.conftest import REPOSITORY
from tests.datakit.augment.store.made import answer, made_store, put_all

# Puts answers without end, and says the number of each as soon as it is told that it is durable.
PUTS = """
import os, sys, time
from pathlib import Path
from datakit.augment.store import AnswerStore
from tests.datakit.augment.store.made import answer

store = AnswerStore(Path(sys.argv[1]))
store.ensure_writable()
os.write(1, b"ready\\n")
number = 0
while True:
    store.put(answer(number), lambda error, number=number: os.write(1, b"%d %s\\n" % (number, repr(error).encode())))
    number += 1
    if number % 7 == 0:
        time.sleep(0.001)
"""
HOLDS = """
import os, sys, time
from pathlib import Path
from datakit.augment.store import AnswerStore

store = AnswerStore(Path(sys.argv[1]))
store.ensure_writable()
os.write(1, b"ready\\n")
time.sleep(600)
"""


@contextmanager
def running(code: str, store: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said that it is ready; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


def killed_while_writing(store: Path, rng: random.Random) -> list[int]:
    """The numbers of the answers that a run was told are durable before it was killed."""
    with running(PUTS, store) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 400))]
        time.sleep(rng.random() / 50)
        process.send_signal(signal.SIGKILL)
        told = [line.split(maxsplit=1) for line in (*lines, *process.stdout.readlines()) if line.endswith(b"\n")]
    assert {error for _, error in told} == {b"None\n"}
    return [int(number) for number, _ in told]


@pytest.mark.parametrize("seed", range(5))
def test_a_run_killed_at_any_moment_keeps_all_that_it_was_told_is_kept(tmp_path, seed):
    path, rng = tmp_path / "a.sqlite", random.Random(seed)
    told: set[int] = set()
    for _ in range(2):  # the second run goes on with what the first left
        told.update(killed_while_writing(path, rng))
        with AnswerStore(path) as store:
            assert all(store.get(answer(number).key) == answer(number) for number in told)
    with AnswerStore(path) as store:
        put_all(store, [answer(0)])
    assert not wal_path(path).exists()
    with AnswerStore(path) as store:
        assert store.count() >= len(told)
        assert all(store.get(answer(number).key) == answer(number) for number in told)


def test_what_a_killed_run_left_in_the_wal_is_found_also_page_by_page(tmp_path):
    path = tmp_path / "a.sqlite"
    told = killed_while_writing(path, random.Random(9))
    assert wal_path(path).stat().st_size > 0
    assert count_whole(path) >= len(told)


def test_a_second_run_is_refused_by_the_name_of_the_first_and_may_still_read(tmp_path):
    path = made_store(tmp_path / "a.sqlite", [answer()])
    with running(HOLDS, path) as process, AnswerStore(path) as store:
        with pytest.raises(UsageError) as refused:
            store.ensure_writable()
        assert f"another run writes into this store: process {process.pid} on " in str(refused.value)
        assert "or give this run a store of its own with --store FILE" in str(refused.value)
        assert store.get(answer().key) == answer()
        (told,) = put_all(store, [answer(1)])  # one that does not ask first is told the same
        assert str(told) == str(refused.value)
    assert (tmp_path / "a.sqlite.lock").exists()  # it is not for the refused one to remove


def test_a_killed_run_frees_the_store(tmp_path):
    path = made_store(tmp_path / "a.sqlite", [answer()])
    with running(HOLDS, path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "a.sqlite.lock").exists()
    with AnswerStore(path) as store:
        store.ensure_writable()
        assert put_all(store, [answer(1)]) == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["a.sqlite"]


def test_two_stores_of_one_process_are_two_runs_also_through_a_link(tmp_path):
    path = made_store(tmp_path / "a.sqlite", [answer()])
    (tmp_path / "link.sqlite").symlink_to(path)
    with AnswerStore(path) as one, AnswerStore(tmp_path / "link.sqlite") as two:
        one.ensure_writable()
        with pytest.raises(UsageError, match=f"process {os.getpid()} on "):
            two.ensure_writable()
        assert two.get(answer().key) == answer()
        one.close()
        two.ensure_writable()


def test_another_run_reads_what_this_one_writes_as_it_comes(tmp_path):
    path = tmp_path / "a.sqlite"
    with AnswerStore(path) as writer, AnswerStore(path) as reader:
        assert reader.get(answer().key) is None
        put_all(writer, [answer()])
        assert reader.get(answer().key) == answer()
        put_all(writer, [answer(1)])
        assert reader.count() == 2


def test_a_reader_at_work_when_the_writer_ends_costs_nothing_but_the_merge(tmp_path):
    path = made_store(tmp_path / "a.sqlite", [answer()])
    with AnswerStore(path) as reader:
        with AnswerStore(path) as writer:
            put_all(writer, [answer(1)])
            assert reader.count() == 2
        assert reader.count() == 2
        assert reader.get(answer(1).key) == answer(1)
    with AnswerStore(path) as store:
        put_all(store, [answer(2)])
    assert [p.name for p in tmp_path.iterdir()] == ["a.sqlite"]
