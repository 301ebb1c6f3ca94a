"""--where, --limit and --shuffle: which rows are taken, in which order, and how the books tell of the others."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datakit.convert import convert_rows
from registry.errors import UsageError

ROWS = [{"n": n, "lang": "de" if n % 3 == 0 else "en", "text": "x" * n} for n in range(1, 11)]


def test_rows_that_match_are_written_and_the_others_counted_as_asked_for(datakit, write_rows, read_rows_back, tmp_path):
    write_rows("in.jsonl", *ROWS)
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--where", "lang = 'en' and n > 4")
    assert [row["n"] for row in read_rows_back("out.jsonl")] == [5, 7, 8, 10]
    assert ran.code == 0
    assert "10 rows in, 4 out, 0 rejected, 6 left out by --where" in ran.err
    assert not (tmp_path / "out.jsonl.rejects.jsonl").exists()
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert (manifest["rows_in"], manifest["rows_out"], manifest["filtered"]) == (10, 4, {"--where": 6})
    assert manifest["options"]["where"] == "lang = 'en' and n > 4"


def test_names_are_those_of_the_source_and_formats_come_after(write_rows, read_rows_back, tmp_path):
    rows = [{"q": {"text": "a"}, "a": "b", "stars": n} for n in (1, 5)]
    convert_rows(
        [write_rows("in.jsonl", *rows)],
        tmp_path / "out.jsonl",
        to_format="alpaca",
        mapping={"instruction": "q.text", "output": "a"},
        where="stars >= 4 and q.text = 'a'",
    )
    assert read_rows_back("out.jsonl") == [{"instruction": "a", "input": "", "output": "b"}]


def test_a_row_of_which_nothing_can_be_said_is_rejected_with_its_reason(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", {"stars": 5}, {"stars": "five"}, {"stars": None}, {})
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--where", "stars > 4")
    assert read_rows_back("out.jsonl") == [{"stars": 5}]
    (reject,) = read_rows_back("out.jsonl.rejects.jsonl")
    assert (reject["row"], reject["field"]) == (2, "--where")
    assert reject["reason"] == "text cannot be compared with a number (five and 4)"
    assert "4 rows in, 1 out, 1 rejected, 2 left out by --where" in ran.err


@pytest.mark.parametrize("container", ["jsonl", "json", "csv", "parquet"])
def test_every_container_gives_the_same_rows(datakit, write_rows, read_rows_back, container):
    write_rows("in.jsonl", *ROWS)
    datakit("convert", "in.jsonl", "-o", f"rows.{container}")
    datakit("convert", f"rows.{container}", "-o", "out.jsonl", "--where", "number(n) in (2, 4) or length(text) = 9")
    assert [str(row["n"]) for row in read_rows_back("out.jsonl")] == ["2", "4", "9"]


def test_a_column_that_no_row_has_is_an_error_with_the_nearest_name(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", *ROWS)
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--where", "lagn = 'en'")
    assert ran.code == 2
    assert 'error: in.jsonl: --where names the column "lagn", and no row has it\n  Nearest: lang.' in ran.err
    assert not (tmp_path / "out.jsonl").exists()


def test_text_in_double_quotes_is_told_to_be_a_column(datakit, write_rows):
    write_rows("in.jsonl", *ROWS)
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--where", 'lang = "en"')
    assert "Text is written in single quotes: 'like this'." in ran.err


def test_a_column_that_only_some_rows_have_is_null_in_the_others(datakit, write_rows, read_rows_back):
    write_rows("in.jsonl", {"a": 1}, {"b": 1}, {"a": 1, "b": 2})
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--where", "b is null or b = 2")
    assert read_rows_back("out.jsonl") == [{"a": 1}, {"a": 1, "b": 2}]


def test_a_condition_that_is_none_is_refused_before_anything_is_read(datakit, tmp_path):
    ran = datakit("convert", "absent.jsonl", "-o", "out.jsonl", "--where", "n >")
    assert ran.code == 2
    assert "a value belongs here, not the end\n  n >\n     ^" in ran.err


def test_where_nothing_matches_the_output_is_empty_and_a_warning_says_so(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", *ROWS)
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--where", "n > 99")
    assert (ran.code, (tmp_path / "out.jsonl").read_bytes()) == (0, b"")
    assert "warning: no row matches --where, so the output is empty" in ran.err


def test_rows_that_cannot_be_read_are_rejected_whatever_the_condition(datakit, tmp_path, read_rows_back):
    (tmp_path / "in.jsonl").write_text('{"n": 1}\n{"n": \n{"n": 2}\n')
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--where", "n = 2")
    assert read_rows_back("out.jsonl") == [{"n": 2}]
    assert [row["row"] for row in read_rows_back("out.jsonl.rejects.jsonl")] == [2]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_limit_counts_the_rows_that_match_and_reads_no_further(write_rows, tmp_path, ending):
    source = write_rows("in.jsonl", *ROWS)
    if ending == "parquet":
        convert_rows([source], tmp_path / "in.parquet")
        source = tmp_path / "in.parquet"
    outcome = convert_rows([source], tmp_path / f"out.{ending}", where="n % 2 = 0", limit=2)
    assert (outcome.rows_in, outcome.rows_out, outcome.filtered) == (4, 2, {"--where": 2})


def test_a_shuffled_order_depends_on_the_seed_alone(write_rows, read_rows_back, tmp_path):
    source = write_rows("in.jsonl", *ROWS)
    orders = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        convert_rows([source], tmp_path / f"{name}.jsonl", shuffle=True, seed=seed)
        orders.append([row["n"] for row in read_rows_back(f"{name}.jsonl")])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == [row["n"] for row in ROWS]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_shuffle_with_limit_is_a_sample_of_what_matches(write_rows, read_rows_back, tmp_path, ending):
    source = write_rows("in.jsonl", *ROWS)
    if ending == "parquet":
        convert_rows([source], tmp_path / "in.parquet")
        source = tmp_path / "in.parquet"
    whole, sample = tmp_path / f"whole.{ending}", tmp_path / f"sample.{ending}"
    convert_rows([source], whole, where="n > 2", shuffle=True, seed=5)
    outcome = convert_rows([source], sample, where="n > 2", shuffle=True, seed=5, limit=3)
    assert outcome.filtered == {"--where": 2, "--limit": 5}
    assert (outcome.rows_in, outcome.rows_out) == (10, 3)
    rows = [pq.read_table(p).to_pylist() if ending == "parquet" else read_rows_back(p.name) for p in (whole, sample)]
    assert rows[0][:3] == rows[1]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_placeholders_are_counted_in_what_is_written(write_rows, tmp_path, ending):
    source = tmp_path / f"in.{ending}"
    convert_rows([write_rows("rows.jsonl", *[{"t": "{{name}}"}] * 10)], source)
    outcome = convert_rows([source], tmp_path / f"out.{ending}", shuffle=True, limit=2)
    assert outcome.details["placeholders_left"] == {"name": 2}


def test_the_same_seed_gives_lines_and_typed_rows_the_same_order(write_rows, read_rows_back, tmp_path):
    source = tmp_path / "in.parquet"
    convert_rows([write_rows("in.jsonl", *ROWS)], source)
    convert_rows([source], tmp_path / "out.jsonl", shuffle=True)
    convert_rows([source], tmp_path / "out.parquet", shuffle=True)
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == read_rows_back("out.jsonl")


def test_the_two_rows_of_a_pair_are_shuffled_like_all_others(write_rows, tmp_path):
    rows = [{"instruction": f"{n}", "chosen": "a", "rejected": "b"} for n in range(20)]
    outcome = convert_rows(
        [write_rows("in.jsonl", *rows)], tmp_path / "out.jsonl", to_format="kto", shuffle=True, limit=15
    )
    assert (outcome.rows_in, outcome.rows_added, outcome.rows_out, outcome.filtered) == (20, 20, 15, {"--limit": 25})


def test_shards_of_shuffled_rows_hold_each_row_once(write_rows, tmp_path):
    convert_rows([write_rows("in.jsonl", *ROWS)], tmp_path / "part-{:02d}.jsonl", shuffle=True, shard_rows=4)
    parts = sorted(tmp_path.glob("part-*.jsonl"))
    rows = [[json.loads(line)["n"] for line in part.read_text().splitlines()] for part in parts]
    assert [len(part) for part in rows] == [4, 4, 2]
    assert sorted(n for part in rows for n in part) == [row["n"] for row in ROWS]


def test_a_disk_that_is_full_of_shuffled_rows_ends_with_3_and_leaves_nothing(
    datakit, write_rows, tmp_path, monkeypatch
):
    import errno
    import os

    from datakit import shuffle

    def full(self, lines):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shuffle, "WINDOW_BYTES", 100)
    monkeypatch.setattr(shuffle.Shuffle.__init__, "__kwdefaults__", {"window": 100})
    monkeypatch.setattr(shuffle._Bucket, "write", full)
    write_rows("in.jsonl", *ROWS)
    ran = datakit("convert", "in.jsonl", "-o", "out.jsonl", "--shuffle")
    assert ran.code == 3
    assert "the disk is full" in ran.err
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_condition_on_parquet_looks_at_values_as_they_are_spelled(tmp_path):
    import datetime

    times = pa.array([datetime.datetime(2025, m, 1, tzinfo=datetime.UTC) for m in (1, 2, 3)], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"at": times, "n": [1, 2, 3]}), tmp_path / "in.parquet")
    outcome = convert_rows([tmp_path / "in.parquet"], tmp_path / "out.parquet", where="at >= '2025-02'")
    assert (outcome.rows_out, outcome.details["path"]) == (2, "arrow")
    assert pq.read_table(tmp_path / "out.parquet")["n"].to_pylist() == [2, 3]


def test_an_unknown_column_is_an_error_in_typed_rows_too(tmp_path):
    pq.write_table(pa.table({"n": [1], "o": [{"k": 1}]}), tmp_path / "in.parquet")
    for condition, known in (("m = 1", False), ("o.x = 1", False), ("o.k = 1", True)):
        if known:
            assert convert_rows([tmp_path / "in.parquet"], tmp_path / "out.parquet", where=condition).rows_out == 1
        else:
            with pytest.raises(UsageError, match="and no row has it"):
                convert_rows([tmp_path / "in.parquet"], tmp_path / "out.parquet", where=condition)
