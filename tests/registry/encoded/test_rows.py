"""Rows of several shards and files, each by its number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.datasets import OPENAI_TAGS, Columns, Layout
from registry.encoded.build import encoded_rows
from registry.encoded.rows import EncodedRows, read_journal
from registry.errors import UsageError
from registry.formats import LAYOUTS
from tests.registry.encoded.conftest import MakeSpec, alpaca_rows, write_lines


@pytest.fixture
def rows(spec: MakeSpec, tmp_path: Path, small_chunks: None) -> EncodedRows:
    """40 rows of two files in many shards; row 5 of each file's first nine is none."""
    files = [write_lines(tmp_path / "a.jsonl", alpaca_rows(18)), write_lines(tmp_path / "b.jsonl", alpaca_rows(22, 18))]
    return encoded_rows(spec(*files, layout=LAYOUTS["alpaca"]), tmp_path / "cache")


def test_a_row_is_known_by_its_file_and_its_number_there(rows: EncodedRows, tmp_path: Path) -> None:
    assert len(rows) == 40
    assert [rows.place(n) for n in (0, 17, 18, 39)] == [
        (str(tmp_path / name), row) for name, row in (("a.jsonl", 1), ("a.jsonl", 18), ("b.jsonl", 1), ("b.jsonl", 22))
    ]
    chosen = np.array([0, 3, 17, 18, 39, 39])
    assert rows.count_by_file(chosen) == {str(tmp_path / "a.jsonl"): 3, str(tmp_path / "b.jsonl"): 3}
    assert rows.count_by_file(np.array([20])) == {str(tmp_path / "b.jsonl"): 1}
    assert rows.count_by_file(np.array([], np.int64)) == {}


def test_lengths_of_all_rows_at_once_are_those_of_each(rows: EncodedRows) -> None:
    lengths, ends = rows.part_lengths()
    assert (lengths.dtype, ends.dtype, len(ends)) == (np.int32, np.int64, 41)
    for number in range(40):
        assert lengths[ends[number] : ends[number + 1]].tolist() == rows.row(number)[1]
        assert len(rows.row(number)[0]) == sum(rows.row(number)[1])
    assert rows.part_roles().tolist() == [place % 2 for n in range(40) for place in range(len(rows.row(n)[1]))]
    assert rows.leads().tolist() == [rows.lead(number) for number in range(40)]


def test_rows_that_are_none_are_told_with_the_reason(rows: EncodedRows) -> None:
    unsound = [4, 13, 22, 31]
    assert np.flatnonzero(rows.unsound()).tolist() == unsound
    assert [number for number in range(40) if rows.fault(number)] == unsound
    assert [(Path(one["file"]).name, one["row"], one["field"]) for one in rows.rejects()] == [
        ("a.jsonl", 5, "output"), ("a.jsonl", 14, "output"), ("b.jsonl", 5, "output"), ("b.jsonl", 14, "output"),
    ]  # fmt: skip
    assert [one["row"] for one in rows.rejects(limit=14)] == [5, 14]
    assert [one["row"] for one in rows.rejects(limit=13)] == [5]
    assert (rows.total("rows"), rows.total("faults")) == (40, 4)
    assert rows.total("tokens") == sum(rows.part_lengths()[0])


def test_what_is_told_of_messages_is_found_again(spec: MakeSpec, tmp_path: Path, small_chunks: None) -> None:
    layout = Layout("openai", Columns(messages="messages", system="system"), OPENAI_TAGS)

    def row(number: int, weight: float) -> dict[str, Any]:
        texts = [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": "b" * 90, "weight": weight},
        ]
        return {"messages": texts, "system": "s" * number}

    weights = [1, 0, 1, 1, 0.5, 1, 1, 1]
    file = write_lines(tmp_path / "a.jsonl", [row(number, weight) for number, weight in enumerate(weights)])
    rows = encoded_rows(spec(file, layout=layout), tmp_path / "cache")
    assert len(rows.shards) > 3
    assert [rows.weights(n) for n in range(8)] == [None, [0], None, None, [0.5], None, None, None]
    assert np.flatnonzero(rows.uneven()).tolist() == [1, 4]
    assert np.diff([rows.lead(n) for n in range(1, 8)]).tolist() == [1] * 6
    assert all(rows.roles(n) is None for n in range(8))


def test_judgements_are_found_again(spec: MakeSpec, tmp_path: Path, small_chunks: None) -> None:
    judged = [{"instruction": f"question {n}", "output": "b" * 90, "kto_tag": n % 3 == 0} for n in range(8)]
    file = write_lines(tmp_path / "a.jsonl", judged)
    rows = encoded_rows(spec(file, kind="answer", layout=LAYOUTS["kto"]), tmp_path / "cache")
    assert [rows.desirable(n) for n in range(8)] == [n % 3 == 0 for n in range(8)]


# --- the journal ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "entries", "complete"),
    [
        ("", 0, False),
        ('{"rows": 1}\n{"rows": 2}\n', 2, False),
        ('{"rows": 1}\n{"rows": 2', 1, False),
        ('{"rows": 1}\n{"rows": 2}', 1, False),
        ('{"rows": 1}\ngarbled\n{"rows": 2}\n', 1, False),
        ('{"rows": 1}\n[]\n{"complete": true}\n', 1, False),
        ('{"rows": 1}\n{"complete": true, "rows": 1}\n', 1, True),
        ('{"rows": 1}\n{"complete": true, "rows": 1}', 1, False),
    ],
)
def test_a_journal_is_read_up_to_its_last_whole_line(tmp_path: Path, text: str, entries: int, complete: bool) -> None:
    (tmp_path / "journal.jsonl").write_text(text)
    found = read_journal(tmp_path / "journal.jsonl")
    assert (len(found[0]), found[1]) == (entries, complete)


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "journal.jsonl") == ([], False)


def test_a_shard_with_other_rows_than_the_journal_says_is_damaged(rows: EncodedRows) -> None:
    journal = rows.folder / "journal.jsonl"
    first, *others = journal.read_text().splitlines()
    entry = json.loads(first)
    journal.write_text("\n".join([json.dumps({**entry, "rows": entry["rows"] + 1}), *others]) + "\n")
    with pytest.raises(UsageError, match="the encoded rows are damaged: it holds"):
        EncodedRows(rows.folder, rows.files)
