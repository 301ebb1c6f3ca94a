"""What holds of dedup whatever the rows are."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.dedup import dedup_rows
from tests.datakit.dedup import naive

TEXTS = st.lists(st.sampled_from(["a", "A", " ", "  ", "\n", "ﬁ", "fi", "中"]), max_size=4).map("".join)
CELLS = st.one_of(st.none(), st.integers(0, 1), TEXTS, st.lists(TEXTS, max_size=2))
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), CELLS, max_size=3), min_size=1, max_size=25)
# Long texts that differ in a few words: similarities on both sides of any threshold.
SENTENCE = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
EDITS = st.lists(st.tuples(st.integers(0, 16), st.sampled_from(["", "x", "y y", "中文字"])), max_size=4)


def edited(edits: list[tuple[int, str]]) -> str:
    words = SENTENCE.split()
    for at, word in edits:
        words[at : at + 1] = [word]
    return " ".join(words)


CORPUS = st.lists(EDITS.map(edited) | TEXTS, min_size=1, max_size=12)


def deduped(rows: list[dict[str, Any]], **options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows that stay, and what is told of the others."""
    with tempfile.TemporaryDirectory() as name:
        source, out, aside = Path(name) / "in.jsonl", Path(name) / "out.jsonl", Path(name) / "gone.jsonl"
        source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        logging.disable()  # what each of a hundred runs tells
        try:
            outcome = dedup_rows([source], out, drops=aside, **options)
        finally:
            logging.disable(logging.NOTSET)
        gone = [orjson.loads(line) for line in aside.read_bytes().splitlines()] if aside.exists() else []
        assert outcome.rows_in == outcome.rows_out + len(gone)
        return [orjson.loads(line) for line in out.read_bytes().splitlines()], gone


@settings(max_examples=40)
@given(ROWS, st.booleans())
def test_exact_duplicates_are_those_of_a_set_of_what_was_seen(rows, raw):
    seen: dict[str, int] = {}
    expected, gone_for = [], []
    for number, row in enumerate(rows, start=1):
        first = seen.setdefault(naive.canonical(row if raw else naive.normal(row)), number)
        if first == number:
            expected.append(row)
        else:
            gone_for.append((number, first))
    stay, gone = deduped(rows, raw=raw)
    assert stay == expected
    assert [(told["row"], told["kept"]["row"]) for told in gone] == gone_for
    assert [orjson.loads(told["raw"]) for told in gone] == [rows[number - 1] for number, _ in gone_for]
    assert deduped(stay, raw=raw) == (stay, [])


@settings(max_examples=40)
@given(ROWS)
def test_on_a_field_rows_without_it_stay(rows):
    rows = [{"a": "always"}, *rows]
    seen: set[str] = set()
    expected = []
    for row in rows:
        key = naive.canonical(naive.normal(row.get("a")))
        if row.get("a") is None or key not in seen:
            expected.append(row)
        seen.add(key)
    assert deduped(rows, on="a")[0] == expected


@settings(max_examples=40)
@given(CORPUS, st.sampled_from([0.3, 0.6, 0.8, 1.0]), st.integers(1, 4))
def test_each_row_that_goes_is_as_similar_to_one_that_stays(texts, threshold, shingle):
    rows = [{"id": number, "text": text} for number, text in enumerate(texts, start=1)]
    stay, gone = deduped(rows, near=threshold, shingle=shingle)
    sets = {row["id"]: naive.shingles([row["text"]], shingle) for row in rows}
    kept = [row["id"] for row in stay]
    assert kept == sorted(kept)
    assert sorted(kept + [told["row"] for told in gone]) == [*sets]
    for told in gone:
        assert told["kept"]["row"] in kept
        assert told["kept"]["row"] < told["row"]
        similarity = naive.jaccard(sets[told["row"]], sets[told["kept"]["row"]])
        assert similarity >= threshold
        assert told["similarity"] == round(similarity, 6)
    assert deduped(stay, near=threshold, shingle=shingle) == (stay, [])


@settings(max_examples=25)
@given(CORPUS)
def test_rows_that_are_alike_in_all_words_never_stay_together(texts):
    rows = [{"id": number, "text": text} for number, text in enumerate(texts)]
    stay, _ = deduped(rows, near=1.0)
    sets = [frozenset(found) for row in stay if (found := naive.shingles([row["text"]], 3))]
    assert len(set(sets)) == len(sets)


@settings(max_examples=25)
@given(ROWS, ROWS)
def test_against_another_file_is_to_come_after_it(before, rows):
    with tempfile.TemporaryDirectory() as name:
        other = Path(name) / "other.jsonl"
        other.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in before))
        stay, _ = deduped(rows, against=[other])
    together, _ = deduped([*before, *rows])
    first, _ = deduped(before)
    assert first + stay == together
