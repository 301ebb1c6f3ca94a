"""Stores that a disk or a hand spoilt: what is read is right or not there, what is wrong is told, the rest is saved."""

from __future__ import annotations

import os
import random
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.augment.answer import Stored
from datakit.augment.store import AnswerStore
from datakit.augment.store.export import export_store
from datakit.augment.store.layout import APPLICATION_ID, FORMAT_VERSION, PAGE_BYTES
from datakit.augment.store.rows import from_row
from datakit.augment.store.salvage import Tally, count_whole, whole_rows
from registry.errors import UsageError
from tests.datakit.augment.store.made import answer, made_store, put_all

PAGE = PAGE_BYTES
# From a few bytes to several pages, so that rows share pages and go on in others.
SIZES = (10, 300, 900, 2000, 3000, 3500, 5000, 9000, 18_000, 50_000)


def answers_of_all_sizes(count: int) -> list[Stored]:
    rng = random.Random(5)
    return [replace(answer(n), body=rng.randbytes(SIZES[n % len(SIZES)])) for n in range(count)]


class Sound(NamedTuple):
    """The bytes of a store, and what is in it."""

    data: bytes
    answers: list[Stored]

    def __repr__(self) -> str:  # hypothesis tells the arguments of what fails
        return f"<{len(self.answers)} answers>"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Sound:
    answers = answers_of_all_sizes(120)
    return Sound(made_store(tmp_path_factory.mktemp("sound") / "a.sqlite", answers).read_bytes(), answers)


def saved(path: Path) -> dict[str, Stored]:
    found = [from_row(row) for row in whole_rows(path, Tally())]
    return {stored.key: stored for stored in found if stored}


def test_all_of_a_sound_store_is_found_page_by_page(sound, tmp_path):
    data, answers = sound
    (tmp_path / "a.sqlite").write_bytes(data)
    assert saved(tmp_path / "a.sqlite") == {stored.key: stored for stored in answers}


@pytest.mark.parametrize("page_bytes", [512, 4096, 65536])
def test_pages_of_any_size_are_looked_at(tmp_path, page_bytes):
    path, answers = made_store(tmp_path / "a.sqlite", answers_of_all_sizes(40)), answers_of_all_sizes(40)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_bytes}")
    connection.execute("VACUUM")
    connection.close()
    assert saved(path) == {stored.key: stored for stored in answers}


@settings(max_examples=80)
@given(data=st.data())
def test_whatever_bytes_change_no_answer_is_misread(sound, data, tmp_path_factory):
    raw, answers = sound
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw) - 1))
        length = data.draw(st.sampled_from([1, 1, 8, 600, 20_000]))
        noise = random.Random(data.draw(st.integers(0, 99))).randbytes(length)
        changed[start : start + length] = noise[: len(raw) - start]
    path = tmp_path_factory.mktemp("changed") / "a.sqlite"
    path.write_bytes(changed)
    told: list[str] = []
    with AnswerStore(path) as store:
        for stored in answers:
            try:
                assert store.get(stored.key) in (None, stored)
            except UsageError as error:
                told.append(str(error))
                if len(told) == 3:  # a run stops at the first
                    break
    assert all("damaged" in text or "no store" in text or "of format" in text for text in told)
    right = {stored.key: stored for stored in answers}
    found = saved(path)
    assert all(right[key] == stored for key, stored in found.items())


def test_a_flipped_bit_in_an_answer_is_noticed_once_and_the_answer_can_be_bought_again(tmp_path, caplog):
    path = made_store(tmp_path / "a.sqlite", [replace(answer(n), body=os.urandom(500)) for n in range(9)])
    with AnswerStore(path) as store:
        row = store._read("SELECT packed FROM answers WHERE key = ?", (bytes.fromhex(answer(4).key),))[0][0]
    raw = bytearray(path.read_bytes())
    raw[raw.index(row) + len(row) // 2] ^= 1
    path.write_bytes(raw)
    with AnswerStore(path) as store:
        assert [store.get(answer(n).key) is None for n in range(9)] == [n == 4 for n in range(9)]
        assert (store.get(answer(4).key), store.num_spoilt) == (None, 1)
        assert [r.message for r in caplog.records] == [
            f"{path}: the disk changed the answer {answer(4).key}; it, and any other like it, is asked for again"
        ]
        # What comes for it takes its place, also a refusal, which never replaces an answer that can be read.
        refusal = answer(4, status=400)
        assert put_all(store, [refusal]) == [None]
        assert (store.get(refusal.key), store.num_spoilt, store.count()) == (refusal, 0, 9)


def test_an_index_that_leads_to_another_row_gives_none(tmp_path):
    path = made_store(tmp_path / "a.sqlite", [answer()])
    raw = path.read_bytes()
    true, other = bytes.fromhex(answer().key), bytes(16)
    assert raw.count(true) == 2  # once in the table, once in the index
    for at in (raw.index(true), raw.rindex(true)):
        path.write_bytes(raw[:at] + other + raw[at + 16 :])
        with AnswerStore(path) as store:
            assert store.get(other.hex()) is None
            assert store.get_many([other.hex()]) == {}
            assert store.get(answer().key) in (None, answer())  # SQLite takes the key from the index


def test_pages_that_the_file_no_longer_uses_bring_no_answer_twice(tmp_path):
    answers = [answer(n) for n in range(3)]
    path = made_store(tmp_path / "a.sqlite", answers)
    raw = path.read_bytes()
    leaf = raw.index(bytes.fromhex(answers[0].key)) // PAGE * PAGE
    path.write_bytes(raw + raw[leaf : leaf + PAGE])
    for name in ("saved.sqlite", "saved.jsonl"):
        outcome = export_store(path, tmp_path / name, salvage=True)
        assert (outcome.rows_in, outcome.rows_out, outcome.filtered) == (6, 3, {"there twice": 3})


def test_rows_that_just_fit_into_a_page_or_just_do_not_are_found(tmp_path):
    answers = [replace(answer(n), body=os.urandom(PAGE - 346 + n)) for n in range(150)]
    path = made_store(tmp_path / "a.sqlite", answers)
    connection = sqlite3.connect(path)
    lengths = [length for (length,) in connection.execute("SELECT length(packed) FROM answers")]
    connection.close()
    assert min(lengths) < PAGE - 35 - 100 < PAGE - 35 < max(lengths)
    assert saved(path) == {stored.key: stored for stored in answers}


def test_an_error_of_sqlite_that_quotes_what_is_no_text_is_told_like_any_other(tmp_path):
    path = made_store(tmp_path / "a.sqlite", [answer()])
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"tableabout", b"table\xff\xfeout", 1))
    with AnswerStore(path) as store, pytest.raises(UsageError, match="the store is damaged"):
        store.get(answer().key)


def test_bytes_lost_in_the_middle_are_told_with_what_can_be_saved_and_it_can(sound, tmp_path, monkeypatch):
    raw, answers = sound
    monkeypatch.chdir(tmp_path)
    path = Path("a.sqlite")
    # The root of the table of answers: without it no row can be reached.
    path.write_bytes(raw)
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'answers'").fetchone()
    connection.close()
    path.write_bytes(raw[: (root - 1) * PAGE] + bytes(PAGE) + raw[root * PAGE :])
    with AnswerStore(path) as store, pytest.raises(UsageError) as told:
        store.get(answers[0].key)
    assert f"a.sqlite: the store is damaged (database disk image is malformed); {len(answers)} answers" in str(
        told.value
    )
    assert "datakit store export a.sqlite -o SAVED.sqlite --salvage" in str(told.value)
    assert "--store SAVED.sqlite" in str(told.value)
    outcome = export_store(path, Path("saved.sqlite"), salvage=True)
    assert (outcome.rows_out, outcome.rejected) == (len(answers), {})
    with AnswerStore("saved.sqlite") as store:
        assert all(store.get(stored.key) == stored for stored in answers)
        assert put_all(store, [answer(999)]) == [None]


def test_a_run_that_meets_the_damage_while_writing_is_told_likewise(sound, tmp_path):
    raw, _ = sound
    path = tmp_path / "a.sqlite"
    path.write_bytes(raw[:PAGE] + os.urandom(3 * PAGE) + raw[4 * PAGE :])
    with AnswerStore(path) as store:
        (error,) = put_all(store, [answer(999)])
        (again,) = put_all(store, [answer(1000)])
    assert isinstance(error, UsageError)
    assert "the store is damaged" in str(error)
    assert again is error


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_told_and_its_whole_pages_are_saved(sound, tmp_path, share):
    raw, answers = sound
    path = tmp_path / "a.sqlite"
    path.write_bytes(raw[: int(len(raw) * share)])
    with AnswerStore(path) as store, pytest.raises(UsageError) as told:
        store.count()
    found = saved(path)
    # Each answer lies in one piece, more or less, so that about as many are left as bytes are.
    assert share / 2 < len(found) / len(answers) < 1
    assert f"the store is damaged (database disk image is malformed); {len(found)} answers in it can be saved" in str(
        told.value
    )
    outcome = export_store(path, tmp_path / "saved.sqlite", salvage=True)
    assert outcome.rows_out == len(found)


def test_a_store_without_its_first_page_is_saved_but_for_what_lay_there(sound, tmp_path):
    raw, answers = sound
    path = tmp_path / "a.sqlite"
    path.write_bytes(os.urandom(PAGE) + raw[PAGE:])
    with AnswerStore(path) as store, pytest.raises(UsageError, match=r"the store is damaged .*not a database"):
        store.ensure_writable()
    assert count_whole(path) == len(answers)


def test_a_store_whose_head_tells_a_wrong_size_of_its_pages_is_saved_whole(sound, tmp_path):
    raw, answers = sound
    path = tmp_path / "a.sqlite"
    path.write_bytes(raw[:16] + (512).to_bytes(2) + raw[18:])
    assert count_whole(path) == len(answers)


@pytest.mark.parametrize("content", [b"x", b"SQLite format 3\0", os.urandom(9000), b'{"instruction": "q"}\n' * 500])
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with AnswerStore(path) as store:
        for use in (store.count, store.ensure_writable, lambda: store.get(answer().key), store.about):
            with pytest.raises(UsageError, match=r"this is no store of answers .*\n  Name a store that datakit"):
                use()
        (error,) = put_all(store, [answer()])
        assert "this is no store" in str(error)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "a.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE answers (key, body)")
    connection.close()
    before = path.read_bytes()
    with AnswerStore(path) as store:
        for use in (store.count, store.ensure_writable):
            with pytest.raises(UsageError, match="another program's SQLite file"):
                use()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("version", "mend"), [(FORMAT_VERSION + 1, "Update tunekit"), (0, "the version of tunekit that")]
)
def test_another_format_is_refused_by_name(tmp_path, version, mend):
    path = made_store(tmp_path / "a.sqlite", [answer()])
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with AnswerStore(path) as store, pytest.raises(UsageError) as told:
        store.get(answer().key)
    assert f"this is a store of format {version}, and this version of tunekit knows format {FORMAT_VERSION}" in str(
        told.value
    )
    assert mend in str(told.value)
    (error,) = put_all(AnswerStore(path), [answer()])
    assert str(error) == str(told.value)


def test_a_change_that_was_cut_off_is_taken_back_before_reading(tmp_path):
    path = made_store(tmp_path / "a.sqlite", [answer(n) for n in range(200)])
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")  # so that half of the change reaches the file
    connection.execute("BEGIN")
    connection.execute("UPDATE answers SET packed = zeroblob(2000)")
    for name in ("a.sqlite", "a.sqlite-journal"):
        (tmp_path / f"cut-{name}").write_bytes((tmp_path / name).read_bytes())
    connection.execute("ROLLBACK")
    connection.close()
    assert (tmp_path / "cut-a.sqlite").read_bytes() != path.read_bytes()
    with AnswerStore(tmp_path / "cut-a.sqlite") as store:
        assert [store.get(answer(n).key) for n in range(200)] == [answer(n) for n in range(200)]
