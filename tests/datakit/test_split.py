"""datakit split: every row on one side, groups and families whole, the same rows for the same seed."""

from __future__ import annotations

import hashlib
import json
import random
import tracemalloc
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datakit.split import split_rows
from datakit.split.choose import TEST, VAL
from datakit.split.look import take_notes
from datakit.split.plan import plan_sides
from datakit.split.size import parse_size
from registry.errors import UsageError
from registry.rows import Row

SIDES = ("train", "val", "test")


def numbered(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"instruction": f"q{i}", "output": f"a{i}", **{k: v(i) for k, v in more.items()}} for i in range(count)]


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@pytest.fixture
def split(tmp_path: Path):
    """``split(rows, val=…)`` → the rows of train, val and test."""
    number = iter(range(1_000_000))

    def run(rows: list[dict[str, Any]], **options: Any) -> dict[str, list[dict[str, Any]]]:
        folder = tmp_path / f"run{next(number)}"
        folder.mkdir()
        source = folder / "rows.jsonl"
        source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        split_rows([source], folder / "out", **options)
        return {side: rows_in(folder / "out" / f"{side}.jsonl") for side in SIDES}

    return run


def test_a_share_or_a_count_of_rows_goes_to_each_side_in_order_and_unchanged(datakit, write_rows, read_rows_back):
    rows = numbered(50)
    write_rows("in.jsonl", *rows)
    ran = datakit("split", "in.jsonl", "--out-dir", "out", "--val", "0.1", "--test", "7", "--json")
    assert (ran.code, ran.json["rows_in"], ran.json["rows_out"], ran.json["rejected"]) == (0, 50, 50, {})
    assert ran.json["outputs"] == ["out/train.jsonl", "out/val.jsonl", "out/test.jsonl"]
    sides = {side: read_rows_back(f"out/{side}.jsonl") for side in SIDES}
    assert {side: len(found) for side, found in sides.items()} == {"train": 38, "val": 5, "test": 7}
    for found in sides.values():
        assert found == [row for row in rows if row in found]
    assert sorted(map(json.dumps, rows)) == sorted(json.dumps(row) for found in sides.values() for row in found)
    assert ran.json["sides"]["val"] == {"file": "out/val.jsonl", "rows": 5, "share": 0.1, "asked": 5}


def test_each_side_has_a_manifest_with_the_books_of_the_whole_split(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", *numbered(10))
    (tmp_path / "in.jsonl").open("a").write("[1]\n")
    datakit("split", "in.jsonl", "--out-dir", "out", "--val", "2")
    for side in ("train", "val"):
        manifest = json.loads((tmp_path / f"out/{side}.jsonl.manifest.json").read_text())
        assert (manifest["command"], manifest["rows_in"], manifest["rows_out"]) == ("split", 11, 10)
        assert manifest["rejected"] == {"a row must be a JSON object, this is an array": 1}
        assert manifest["outputs"][0]["file"] == f"out/{side}.jsonl"
        assert {name: found["rows"] for name, found in manifest["details"]["sides"].items()} == {"train": 8, "val": 2}
    rejected = json.loads((tmp_path / "out/split.rejects.jsonl").read_text())
    assert (rejected["file"], rejected["row"], rejected["raw"]) == ("in.jsonl", 11, "[1]")


def test_rejected_rows_fail_the_command_under_strict(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", *numbered(4))
    (tmp_path / "in.jsonl").open("a").write("no json\n")
    assert datakit("split", "in.jsonl", "--out-dir", "out", "--val", "1").code == 0
    assert datakit("split", "in.jsonl", "--out-dir", "out", "--val", "1", "--strict").code == 1


def test_a_row_that_cannot_be_written_takes_nobodys_side(datakit, tmp_path, read_rows_back):
    deep = '{"a":' + "[" * 600 + "]" * 600 + "}"
    lines = [json.dumps(row) for row in numbered(20)]
    (tmp_path / "in.jsonl").write_text("\n".join([deep, *lines[:10], deep, *lines[10:], deep]) + "\n")
    (tmp_path / "plain.jsonl").write_text("\n".join(lines) + "\n")
    ran = datakit("split", "in.jsonl", "--out-dir", "out", "--val", "5", "--json")
    datakit("split", "plain.jsonl", "--out-dir", "plain", "--val", "5")
    assert (ran.json["rows_in"], ran.json["rows_out"], sum(ran.json["rejected"].values())) == (23, 20, 3)
    for side in ("train", "val"):
        assert read_rows_back(f"out/{side}.jsonl") == read_rows_back(f"plain/{side}.jsonl")


def test_the_order_of_rows_and_files_does_not_decide_who_is_held_out(split):
    rows = numbered(200, lang=lambda i: "abc"[i % 3])
    shuffled = random.Random(1).sample(rows, len(rows))
    for options in ({"val": 0.1}, {"val": 0.1, "test": 15, "stratify": "lang"}, {"val": 20, "by": "lang"}):
        if options.get("by"):
            rows = numbered(200, lang=lambda i: i % 40)
            shuffled = random.Random(1).sample(rows, len(rows))
        one, other = split(rows, **options), split(shuffled, **options)
        for side in SIDES:
            assert sorted(map(str, one[side])) == sorted(map(str, other[side]))


def test_rows_added_later_leave_most_of_the_held_out_rows_where_they_were(split):
    rows = numbered(1000)
    before, after = split(rows[:900], val=0.1)["val"], split(rows, val=0.1)["val"]
    assert sum(row in after for row in before) >= 80


@settings(max_examples=40)
@given(
    count=st.integers(2, 60), val=st.integers(1, 30), test=st.integers(0, 20), seed=st.integers(0, 5), data=st.data()
)
def test_sides_are_disjoint_complete_in_order_and_of_the_very_size(tmp_path_factory, count, val, test, seed, data):
    texts = data.draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))  # most rows have twins
    folder = tmp_path_factory.mktemp("split")
    source = folder / "rows.jsonl"
    source.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    if val + test >= count:
        with pytest.raises(UsageError, match="no row would be left to train on"):
            split_rows([source], folder / "out", val=val, test=test, seed=seed)
        return
    split_rows([source], folder / "out", val=val, test=test, seed=seed)
    found = {side: [row["text"] for row in rows_in(folder / "out" / f"{side}.jsonl")] for side in SIDES}
    assert {side: len(rows) for side, rows in found.items()} == {
        "train": count - val - test,
        "val": val,
        "test": test,
    }
    assert sorted(text for rows in found.values() for text in rows) == sorted(texts)
    for rows in found.values():
        left = iter(texts)
        assert all(text in left for text in rows)  # in the order of the source


def test_the_same_seed_gives_the_same_split_and_another_one_another(split):
    rows = numbered(100)
    assert split(rows, val=30, seed=3) == split(rows, val=30, seed=3)
    held_out = [[row["instruction"] for row in split(rows, val=30, seed=seed)["val"]] for seed in range(4)]
    assert len({tuple(names) for names in held_out}) == 4
    assert all(15 <= len(set(held_out[0]) - set(other)) <= 29 for other in held_out[1:])  # 21 on average


def test_who_is_held_out_follows_from_the_seed_and_the_rows_json_alone(split):
    """The rule, spelled again: BLAKE2b of the row's JSON keyed with the seed, through SplitMix64, lowest first."""

    def priority(row: dict[str, Any]) -> int:
        x = int.from_bytes(hashlib.blake2b(orjson.dumps(row), digest_size=8, key=b"42").digest(), "little")
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            x = ((x ^ (x >> shift)) * factor) % 2**64
        return x

    rows = numbered(40)
    in_order = sorted(rows, key=priority)
    found = split(rows, val=5, test=3, seed=42)
    assert sorted(found["val"], key=priority) == in_order[:5]
    assert sorted(found["test"], key=priority) == in_order[5:8]


@settings(max_examples=40)
@given(groups=st.lists(st.integers(0, 9) | st.none(), min_size=4, max_size=60), val=st.integers(1, 10), data=st.data())
def test_no_group_is_on_both_sides_and_the_reached_count_is_as_near_as_groups_allow(
    tmp_path_factory, groups, val, data
):
    folder = tmp_path_factory.mktemp("split")
    source = folder / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps({"n": i, "g": g}) + b"\n" for i, g in enumerate(groups)))
    test = data.draw(st.integers(0, 3))
    sizes = Counter(g if g is not None else f"alone {i}" for i, g in enumerate(groups))
    assume(set(groups) != {None} and len(groups) > val + test + 2 * max(sizes.values()))
    outcome = split_rows([source], folder / "out", val=val, test=test, by="g")
    found = {side: rows_in(folder / "out" / f"{side}.jsonl") for side in SIDES}
    assert sorted(row["n"] for rows in found.values() for row in rows) == list(range(len(groups)))
    sides_of = {
        g: {side for side, rows in found.items() for row in rows if row["g"] == g} for g in set(groups) - {None}
    }
    assert all(len(sides) == 1 for sides in sides_of.values())
    for side, asked in (("val", val), ("test", test)):
        assert outcome.details["sides"].get(side, {"rows": 0})["rows"] == len(found[side])
        assert bool(found[side]) == bool(asked)
    if sizes.most_common(1)[0][1] == 1:
        assert len(found["val"]) == val


def test_groups_with_the_same_text_are_one_whatever_their_type(split):
    rows = [{"n": i, "g": [7, "7", 7.0][i % 3]} for i in range(9)] + [{"n": i, "g": "other"} for i in range(9, 12)]
    found = split(rows, val=3, by="g")
    assert [row["n"] for row in found["val"]] == [9, 10, 11]


def test_groups_may_be_reached_into_with_dots_and_values_may_be_objects(split):
    rows = [{"n": i, "meta": {"user": {"id": i % 5}}} for i in range(50)]
    found = split(rows, val=0.2, by="meta.user")
    users = {side: {row["meta"]["user"]["id"] for row in rows} for side, rows in found.items()}
    assert (len(users["val"]), len(found["val"])) == (1, 10)
    assert not users["val"] & users["train"]


def test_a_large_group_is_no_likelier_to_be_held_out_than_a_small_one(split):
    rows = [{"n": i, "g": f"single {i}" if i < 100 else f"large {i // 10}"} for i in range(400)]
    large = [sum(row["g"].startswith("large") for row in split(rows, val=80, by="g", seed=s)["val"]) for s in range(12)]
    assert 720 * 0.9 < sum(large) < 720 * 1.1  # 60 of 80 rows each time, on average


def test_with_groups_the_summary_says_what_was_reached(datakit, write_rows):
    write_rows("in.jsonl", *({"n": i, "g": i // 10} for i in range(100)))
    ran = datakit("split", "in.jsonl", "--out-dir", "out", "--val", "14", "--by", "g", "--json")
    assert ran.json["sides"]["val"] == {"file": "out/val.jsonl", "rows": 10, "share": 0.1, "asked": 14}
    assert ran.json["groups"] == {"groups": 10, "largest": 10, "rows_without_value": 0}
    assert "warning: val: 10 rows, 10.00 %, not 14: groups stay whole, and the largest has 10 rows" in ran.err


def test_each_value_gets_its_share_and_the_totals_are_exact(split):
    rows = numbered(1000, lang=lambda i: "de" if i < 503 else "en" if i < 900 else "zh" if i < 993 else None)
    found = split(rows, val=100, test=51, stratify="lang")
    counts = {side: Counter(row["lang"] for row in rows) for side, rows in found.items()}
    assert counts["val"] == {"de": 50, "en": 40, "zh": 9, None: 1}
    assert counts["test"] == {"de": 26, "en": 20, "zh": 5}
    assert sum(counts["train"].values()) == 849


def test_groups_and_strata_go_together(datakit, write_rows, read_rows_back):
    rows = numbered(600, user=lambda i: i // 4, lang=lambda i: "abc"[i // 4 % 3])
    write_rows("in.jsonl", *rows)
    ran = datakit(
        "split", "in.jsonl", "--out-dir", "out", "--val", "60", "--by", "user", "--stratify", "lang", "--json"
    )
    assert {value: counts["val"] for value, counts in ran.json["strata"].items()} == {"a": 20, "b": 20, "c": 20}
    users = [{row["user"] for row in read_rows_back(f"out/{side}.jsonl")} for side in ("train", "val")]
    assert not users[0] & users[1]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--val", "0"], "there would be no validation row"),
        (["--val", "1.5"], "a share lies between 0 and 1"),
        (["--val", "1.0"], "--val 1."),
        (["--val", "many"], '"many" is neither a count of rows nor a share'),
        (["--val", "-1"], "neither a count of rows nor a share"),
        (["--val", "20"], "no row would be left to train on: --val takes 20 of 20 rows"),
        (["--val", "10", "--test", "10"], "--val takes 10 and --test takes 10 of 20 rows"),
        (["--val", "2", "--by", "langs"], "no row has it\n  Nearest: lang. Columns: n, lang"),
        (["--val", "2", "--stratify", "lnag"], '--stratify names the column "lnag"'),
        (
            ["--val", "2", "--by", "all"],
            "rows that stay together make too few groups, the largest of 20 rows out of 20",
        ),
        (["--val", "2", "--ext", ".jsnl"], 'Did you mean ".jsonl"'),
        (["--val", "2", "--rejects", "out/val.jsonl"], "rows and rejects cannot go to the same file"),
    ],
)
def test_what_cannot_be_split_is_refused_with_a_way_out_and_nothing_is_written(
    datakit, write_rows, tmp_path, options, told
):
    write_rows("in.jsonl", *({"n": i, "lang": "a", "all": 1} for i in range(20)))
    ran = datakit("split", "in.jsonl", "--out-dir", "out", *options)
    assert ran.code == 2
    assert told in ran.err
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_field_with_a_value_a_row_is_no_stratum(datakit, write_rows):
    write_rows("in.jsonl", *({"n": i} for i in range(10_001)))
    ran = datakit("split", "in.jsonl", "--out-dir", "out", "--val", "2", "--stratify", "n")
    assert (ran.code, "more than 10,000 values" in ran.err) == (2, True)


def test_files_of_an_earlier_split_that_this_one_would_not_replace_are_refused(datakit, write_rows, tmp_path):
    write_rows("in.jsonl", *numbered(10))
    assert datakit("split", "in.jsonl", "--out-dir", "out", "--val", "2", "--test", "2").code == 0
    assert datakit("split", "in.jsonl", "--out-dir", "out", "--val", "2", "--test", "2").code == 0
    for options in (["--val", "2"], ["--val", "2", "--test", "2", "--ext", ".parquet"]):
        ran = datakit("split", "in.jsonl", "--out-dir", "out", *options)
        assert ran.code == 2
        assert "would be left beside this split" in ran.err
    assert sum(len(rows_in(tmp_path / f"out/{side}.jsonl")) for side in SIDES) == 10


@pytest.mark.parametrize("ext", [".json", "csv", ".tsv", ".parquet", ".jsonl.gz", ".jsonl.zst"])
def test_sides_can_be_files_of_any_kind_that_is_written(datakit, write_rows, ext):
    write_rows("in.jsonl", *numbered(30))
    assert datakit("split", "in.jsonl", "--out-dir", "out", "--val", "10", "--ext", ext).code == 0
    ending = ext if ext.startswith(".") else f".{ext}"
    again = datakit("split", f"out/train{ending}", f"out/val{ending}", "--out-dir", "again", "--val", "10", "--json")
    assert again.json["rows_in"] == 30


def test_stdin_is_copied_aside_as_it_has_to_be_read_twice(datakit, write_rows, tmp_path, monkeypatch):
    path = write_rows("in.jsonl", *numbered(20))
    with path.open("rb") as handle:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=handle, isatty=lambda: False))
        ran = datakit("split", "-", "--out-dir", "out", "--val", "5", "--json")
    assert (ran.code, ran.json["sides"]["val"]["rows"]) == (0, 5)
    manifest = json.loads((tmp_path / "out/train.jsonl.manifest.json").read_text())
    assert manifest["inputs"] == [{"file": "-", "rows": 20}]
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(("by", "stratify", "most"), [(None, None, 30), (None, "lang", 45), ("user", None, 90)])
def test_choosing_sides_takes_the_bytes_a_row_that_the_manual_says(by, stratify, most):
    def peak(count: int) -> int:
        items = (Row("in.jsonl", i + 1, {"q": f"q{i}", "user": i // 5, "lang": i % 7}) for i in range(count))
        tracemalloc.start()
        notes = take_notes(items, by, stratify, 42, "in.jsonl")
        plan_sides(notes, {VAL: parse_size(0.1, "--val"), TEST: parse_size(0, "--test")})
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert (peak(20_000) - peak(5_000)) / 15_000 < most


def test_a_file_that_changes_between_the_readings_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in numbered(20)))
    import datakit.split

    plan = datakit.split.plan_sides

    def plan_while_rows_come(*arguments: Any) -> Any:
        with source.open("a") as handle:
            handle.write('{"instruction": "late", "output": "row"}\n')
        return plan(*arguments)

    monkeypatch.setattr(datakit.split, "plan_sides", plan_while_rows_come)
    with pytest.raises(UsageError, match="the file changed between two readings of it"):
        split_rows([source], tmp_path / "out", val=2)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_leaves_the_split_of_before(tmp_path, monkeypatch):
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in numbered(20)))
    split_rows([source], tmp_path / "out", val=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    import datakit.together

    settle = datakit.together._Pending.settle

    def full(pending: Any) -> None:
        if pending.target.endswith("val.jsonl"):
            raise OSError(28, "No space left on device")
        settle(pending)

    monkeypatch.setattr(datakit.together._Pending, "settle", full)
    with pytest.raises(OSError, match="No space"):
        split_rows([source], tmp_path / "out", val=5, seed=9)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
