"""datakit.augment.store: what is put is found, once it is durable, and nothing else is."""

from __future__ import annotations

import math
import os
import sqlite3
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.augment.answer import Stored
from datakit.augment.store import AnswerStore
from datakit.augment.store.layout import wal_path
from datakit.augment.store.rows import from_row, to_row
from datakit.augment.store.writer import GROUP_ROWS
from registry.errors import UsageError
from tests.datakit.augment.store.made import answer, made_store, put_all

NOWHERE = "0" * 32
COUNTS = st.integers(0, 2**40)
ANSWERS = st.builds(
    Stored,
    key=st.binary(min_size=16, max_size=16).map(bytes.hex),
    request=st.binary(),
    body=st.binary() | st.binary(max_size=50).map(lambda some: some * 1000),
    provider=st.text(st.characters(exclude_categories=["Cs"])),
    model=st.text(st.characters(exclude_categories=["Cs"])),
    status=st.integers(0, 599),
    finish=st.text(st.characters(exclude_categories=["Cs"])),
    prompt_tokens=COUNTS,
    completion_tokens=COUNTS,
    seconds=st.floats(0, 1e9),
    attempts=st.integers(0, 99),
    created=st.floats(0, 1e11),
)


def commits_in_wal(wal: bytes) -> int:
    """Transactions of a write-ahead log: the frames that tell the size of the whole file (file format, section 4.1)."""
    page_bytes = int.from_bytes(wal[8:12])
    return sum(wal[at + 4 : at + 8] != bytes(4) for at in range(32, len(wal), 24 + page_bytes))


@settings(max_examples=30)
@given(st.lists(ANSWERS, min_size=1, max_size=8, unique_by=lambda stored: stored.key))
def test_what_is_put_is_found_byte_for_byte_at_once_and_in_the_file_afterwards(answers):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.sqlite")
        with AnswerStore(path) as store:
            assert put_all(store, answers) == [None] * len(answers)
            assert [store.get(stored.key) for stored in answers] == answers
        assert list(Path(folder).iterdir()) == [path]
        with AnswerStore(path) as store:
            assert store.get_many(stored.key for stored in answers) == {stored.key: stored for stored in answers}
            assert store.count() == len(answers)


@given(ANSWERS, st.integers(0, 10**9), st.integers(0, 7))
def test_a_row_with_any_bit_of_its_bytes_flipped_is_no_answer(stored, place, bit):
    row = list(to_row(stored))
    columns = [i for i, value in enumerate(row) if isinstance(value, bytes)]
    column = columns[place % len(columns)]
    value = bytearray(row[column])
    value[place % len(value)] ^= 1 << bit
    row[column] = bytes(value)
    assert from_row(tuple(row)) is None


@pytest.mark.parametrize("column", range(12))
def test_a_row_with_any_value_changed_is_no_answer(column):
    row = list(to_row(answer()))
    assert from_row(tuple(row)) == answer()
    row[column] = 7 if isinstance(row[column], bytes) else "other"
    assert from_row(tuple(row)) is None


def test_what_is_not_there_is_none_and_nothing_is_made_by_looking(tmp_path):
    with AnswerStore(tmp_path / "none" / "a.sqlite") as store:
        assert (store.get(NOWHERE), store.get_many([NOWHERE]), store.count(), store.about()) == (None, {}, 0, {})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.sqlite").touch()
    with AnswerStore(tmp_path / "empty.sqlite") as store:
        assert (store.get(NOWHERE), store.count()) == (None, 0)
    assert [(p.name, p.stat().st_size) for p in tmp_path.iterdir()] == [("empty.sqlite", 0)]


def test_a_store_that_is_only_read_keeps_every_byte_and_its_time_and_gets_no_neighbour(tmp_path):
    path = made_store(tmp_path / "a.sqlite", [answer(n) for n in range(20)])
    before, changed = path.read_bytes(), path.stat().st_mtime_ns
    with AnswerStore(path) as store:
        assert store.get(answer(3).key) == answer(3)
        assert [p.name for p in tmp_path.iterdir()] == ["a.sqlite"]
        assert (store.get(NOWHERE), store.count()) == (None, 20)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, changed)


def test_being_ready_to_write_changes_no_byte_either(tmp_path):
    path = made_store(tmp_path / "a.sqlite", [answer()])
    before, changed = path.read_bytes(), path.stat().st_mtime_ns
    with AnswerStore(path) as store:
        store.ensure_writable()
        store.ensure_writable()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.sqlite", "a.sqlite.lock"]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, changed)
    assert [p.name for p in tmp_path.iterdir()] == ["a.sqlite"]


def test_a_new_store_is_only_made_by_its_first_answer(tmp_path):
    with AnswerStore(tmp_path / "new" / "a.sqlite") as store:
        store.ensure_writable()
        assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.sqlite.lock"]
        assert put_all(store, [answer()]) == [None]
        assert store.get(answer().key) == answer()


def test_many_answers_go_to_the_disk_in_few_commits(tmp_path):
    path = tmp_path / "a.sqlite"
    with AnswerStore(path) as store:
        first = put_all(store, [answer(0)])
        some = put_all(store, [answer(n) for n in range(1, 600)])
        assert first + some == [None] * 600
        # All 599 were queued within moments, so they filled their groups; a slow machine may have needed a few more.
        assert 1 + 599 // GROUP_ROWS <= store.num_commits <= 30
        assert commits_in_wal(wal_path(path).read_bytes()) == store.num_commits


def test_answers_that_come_soon_after_each_other_share_a_commit_and_closing_cuts_the_wait_short(tmp_path, monkeypatch):
    monkeypatch.setattr("datakit.augment.store.writer.GROUP_WAIT_S", 100)
    told = []
    store = AnswerStore(tmp_path / "a.sqlite")
    for number in range(3):
        store.put(answer(number), told.append)
        time.sleep(0.05)  # long enough for a writer that does not wait
    store.close()
    assert (told, store.num_commits) == ([None] * 3, 1)


def test_each_answer_is_told_from_the_writers_thread_after_it_is_in_the_file(tmp_path):
    path, seen = tmp_path / "a.sqlite", []
    with AnswerStore(path) as store:
        told = threading.Event()

        def done(error: BaseException | None) -> None:
            with sqlite3.connect(path) as other:
                seen.append((error, threading.current_thread().name, other.execute("SELECT 1 FROM answers").fetchall()))
            other.close()
            told.set()

        store.put(answer(), done)
        assert told.wait(30)
    assert seen == [(None, "store writer", [(1,)])]


def test_the_writer_lets_a_power_cut_take_nothing_that_was_told(tmp_path):
    with AnswerStore(tmp_path / "a.sqlite") as store:
        put_all(store, [answer()])
        connection = store._writer._connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: the WAL is synced at each commit


def test_closing_waits_for_what_is_queued_merges_the_wal_and_may_be_done_twice(tmp_path):
    path, told = tmp_path / "a.sqlite", []
    store = AnswerStore(path)
    for number in range(700):
        store.put(answer(number), told.append)
    store.close()
    store.close()
    assert told == [None] * 700
    assert [p.name for p in tmp_path.iterdir()] == ["a.sqlite"]
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(path.read_bytes())
    with AnswerStore(copy) as other:
        assert other.count() == 700
    for use in (lambda: store.put(answer(), told.append), lambda: store.get(NOWHERE), store.count):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_an_answer_replaces_what_is_there_and_a_refusal_only_a_refusal(tmp_path):
    refusal, other = answer(status=400), replace(answer(status=422), body=b"never")
    with AnswerStore(tmp_path / "a.sqlite") as store:
        seen = []
        for stored in (refusal, other, answer(), refusal, answer(text="Anew."), other):
            put_all(store, [stored])
            seen.append(store.get(stored.key))
        assert seen == [refusal, other, answer(), answer(), answer(text="Anew."), answer(text="Anew.")]
        assert store.count() == 1


def test_all_answers_to_one_question_in_one_group_follow_the_same_rule(tmp_path):
    with AnswerStore(tmp_path / "a.sqlite") as store:
        put_all(store, [answer(status=400), answer(), answer(status=400)])
        assert (store.get(answer().key), store.count()) == (answer(), 1)


def test_nonsense_in_what_is_only_counted_loses_no_answer(tmp_path):
    odd = replace(answer(), finish="\ud800", prompt_tokens=10**40, seconds=math.nan, created=-math.inf)
    with AnswerStore(tmp_path / "a.sqlite") as store:
        assert put_all(store, [odd]) == [None]
        found = store.get(odd.key)
    assert found == replace(odd, finish="?", prompt_tokens=2**62, seconds=0.0, created=0.0)


def test_one_answer_that_cannot_be_kept_takes_no_other_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("datakit.augment.store.rows.MOST_BYTES", 1000)
    huge = replace(answer(1), body=os.urandom(2000))
    with AnswerStore(tmp_path / "a.sqlite") as store:
        told = {}
        for stored in (answer(0), huge, answer(2)):
            store.put(stored, lambda error, key=stored.key: told.update({key: error}))
        store._writer.close()
        assert (told[answer(0).key], told[answer(2).key]) == (None, None)
        assert isinstance(told[huge.key], UsageError)
        assert "2,000 bytes is too large" in str(told[huge.key])
        assert store.count() == 2


def test_many_threads_read_and_write_at_once(tmp_path):
    wrong = []
    with AnswerStore(tmp_path / "a.sqlite") as store:

        def work(first: int) -> None:
            for number in range(first, first + 40):
                told = threading.Event()
                store.put(answer(number), lambda error, told=told: told.set())
                if store.get(answer(number).key) not in (None, answer(number)):
                    wrong.append(number)
                if not told.wait(60) or store.get(answer(number).key) != answer(number):
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 640, 40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (wrong, store.count()) == ([], 640)


def test_a_store_says_when_and_by_what_it_was_made_and_what_its_maker_noted(tmp_path):
    path = made_store(tmp_path / "a.sqlite", [answer()], note="recorded for the demo")
    with AnswerStore(path) as store:
        about = store.about()
    assert about["note"] == "recorded for the demo"
    assert about["tool"].startswith("tunekit ")
    assert int(about["created"]) > 1_700_000_000


def test_a_name_with_signs_of_an_address_is_a_name_like_any_other(tmp_path):
    path = made_store(tmp_path / "a?mode=memory#%41 b.sqlite", [answer()])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with AnswerStore(path) as store:
        assert store.count() == 1
