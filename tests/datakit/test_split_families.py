"""Rows made from a seed row stay with it and with each other, however the seed row is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.origins import SeedRef, seeds_of
from datakit.split import split_rows
from registry.manifest import Ledger, build_manifest, manifest_path


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def sides_of(folder: Path) -> dict[int, set[str]]:
    """The sides on which the family ``f`` of rows was found."""
    found: dict[int, set[str]] = {}
    for side in ("train", "val", "test"):
        path = folder / f"{side}.jsonl"
        for line in path.read_bytes().splitlines() if path.exists() else ():
            found.setdefault(orjson.loads(line)["f"], set()).add(side)
    return found


def made(family: int, seed_row: Any, copies: int = 3) -> list[dict[str, Any]]:
    return [
        {"q": f"{family} {i}", "f": family, "_origin": {"seed_row": seed_row, "recipe": "vary", "model": "m"}}
        for i in range(copies)
    ]


def seeds(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"q": f"seed {i}", "f": i, **{name: value(i) for name, value in more.items()}} for i in range(count)]


@pytest.mark.parametrize(
    ("seed_row", "expected"),
    [
        (5, [SeedRef(row=5)]),
        (5.0, [SeedRef(row=5)]),
        ("q-5", [SeedRef(id="q-5")]),
        ({"file": "a.jsonl", "row": 5}, [SeedRef("a.jsonl", 5)]),
        ({"file": "a.jsonl", "row": 5, "id": 7}, [SeedRef("a.jsonl", 5, "7")]),
        ({"id": "x"}, [SeedRef(id="x")]),
        ([1, "x", None], [SeedRef(row=1), SeedRef(id="x")]),
        ({"hash": "ab", "b": 1}, [SeedRef(id='{"b":1,"hash":"ab"}')]),
        ({"file": None, "row": None, "id": None}, []),
        (None, []), (True, []), ("", []),
    ],
)  # fmt: skip
def test_a_seed_row_is_named_by_number_id_or_place(seed_row, expected):
    assert list(seeds_of({"_origin": {"seed_row": seed_row}})) == expected
    assert list(seeds_of({"_origin": json.dumps({"seed_row": seed_row})})) == expected  # as CSV holds it
    assert seeds_of({"seed_row": seed_row}) == ()


@pytest.mark.parametrize("origin", ["{half", 3, [1], "text", None])
def test_an_origin_that_is_no_object_names_nothing(origin):
    assert seeds_of({"_origin": origin}) == ()


@pytest.mark.parametrize(
    ("named", "seed_rows"),
    [
        (lambda i: {"file": "seeds.jsonl", "row": i + 1}, seeds(20)),
        (lambda i: {"file": "data/seeds.jsonl", "row": i + 1}, seeds(20)),
        (lambda i: i + 1, seeds(20)),
        (lambda i: f"s{i}", seeds(20, id=lambda i: f"s{i}")),
        (lambda i: {"id": i + 100}, seeds(20, id=lambda i: i + 100)),
        (lambda i: i + 100, seeds(20, id=lambda i: i + 100)),
    ],
)
def test_what_was_made_in_a_file_of_its_own_goes_where_its_seed_row_goes(tmp_path, monkeypatch, named, seed_rows):
    monkeypatch.chdir(tmp_path)
    sources = [
        write(Path("data/seeds.jsonl"), seed_rows),
        write(Path("data/made.jsonl"), [row for i in range(20) for row in made(i, named(i))]),
    ]
    for order in (sources, sources[::-1]):
        outcome = split_rows(order, tmp_path / "out", val=16, seed=1)
        assert outcome.details["families"] == {"rows_made": 60, "seed_rows": 20, "seed_rows_found": 20}
        assert outcome.details["sides"]["val"]["rows"] == 16
        assert all(len(sides) == 1 for sides in sides_of(tmp_path / "out").values())


def test_numbers_count_in_the_same_file_where_seed_rows_and_made_rows_stand_together(tmp_path):
    rows = seeds(20) + [row for i in range(20) for row in made(i, i + 1)]
    outcome = split_rows([write(tmp_path / "all.jsonl", rows)], tmp_path / "out", val=16)
    assert outcome.details["families"]["seed_rows_found"] == 20
    assert outcome.details["groups"]["largest"] == 4
    assert all(len(sides) == 1 for sides in sides_of(tmp_path / "out").values())


def test_a_number_never_means_a_row_that_was_itself_made(tmp_path):
    rows = [row for i in range(20) for row in made(i, 60 + i + 1)] + seeds(20)  # the made rows stand at 1 to 60
    rows += [row for i in range(20, 40) for row in made(i, i - 19)]  # of seed rows that are not in this file
    outcome = split_rows([write(tmp_path / "all.jsonl", rows)], tmp_path / "out", val=16)
    assert outcome.details["groups"]["largest"] == 4
    assert outcome.details["families"] == {"rows_made": 120, "seed_rows": 40, "seed_rows_found": 20}
    assert all(len(sides) == 1 for sides in sides_of(tmp_path / "out").values())


def test_a_large_family_is_no_likelier_to_be_held_out_than_a_small_one(tmp_path):
    rows = seeds(100) + [row for i in range(30) for row in made(100 + i, f"gone {i}", copies=10)]
    path = write(tmp_path / "all.jsonl", rows)
    held_out = 0
    for seed in range(12):
        split_rows([path], tmp_path / "out", val=80, seed=seed)
        held_out += (tmp_path / "out/val.jsonl").read_text().count("_origin")
    assert 720 * 0.9 < held_out < 720 * 1.1  # 60 of 80 rows each time, on average


def test_blank_lines_count_for_row_numbers_as_they_do_everywhere(tmp_path):
    path = write(tmp_path / "seeds.jsonl", seeds(20))
    path.write_text(path.read_text().replace("\n", "\n\n"))  # row i stands in line 2i + 1
    rows = [row for i in range(20) for row in made(i, {"file": "seeds.jsonl", "row": 2 * i + 1})]
    outcome = split_rows([path, write(tmp_path / "made.jsonl", rows)], tmp_path / "out", val=16)
    assert outcome.details["families"]["seed_rows_found"] == 20
    assert all(len(sides) == 1 for sides in sides_of(tmp_path / "out").values())


def augmented(path: Path, rows: list[dict[str, Any]], seeds_file: Path) -> Path:
    """``rows`` as `datakit augment` leaves them: the file, and a manifest that tells what they were made from."""
    write(path, rows)
    manifest = build_manifest("augment", {"recipe": "vary"}, [str(seeds_file)], Ledger(), [path])
    manifest_path(path).write_bytes(orjson.dumps(manifest))
    return path


def test_the_manifest_of_augment_tells_in_which_of_several_files_a_number_counts(tmp_path):
    first = write(tmp_path / "first.jsonl", seeds(10))
    second = write(tmp_path / "second.jsonl", [dict(row, f=row["f"] + 10) for row in seeds(10)])
    out = augmented(tmp_path / "made.jsonl", [row for i in range(10) for row in made(10 + i, i + 1)], second)
    outcome = split_rows([first, second, out], tmp_path / "out", val=8, test=8)
    assert outcome.details["families"]["seed_rows_found"] == 10
    assert all(len(sides) == 1 for sides in sides_of(tmp_path / "out").values())


@pytest.mark.parametrize("named", [lambda i: {"file": "seeds.jsonl", "row": i}, lambda i: i])
def test_seed_rows_are_found_again_after_steps_that_moved_them(datakit, tmp_path, named):
    """seeds → augment; both → convert, where rows are rejected → validate, where some more are → a shuffle → split."""
    rows = [{"instruction": f"q{i}", "output": "" if i % 7 == 3 else "a", "f": i} for i in range(40)]
    text = "".join(json.dumps(row) + "\n" + "no json\n" * (i % 5 == 0) for i, row in enumerate(rows))
    (tmp_path / "seeds.jsonl").write_text(text)
    numbers = [n for n, line in enumerate(text.splitlines(), start=1) if line != "no json"]
    made_rows = [{"instruction": f"v{i}", "output": "b", "f": i, "_origin": {"seed_row": named(numbers[i])}}
                 for i in range(40)]  # fmt: skip
    augmented(tmp_path / "made.jsonl", made_rows, tmp_path / "seeds.jsonl")
    assert datakit("convert", "made.jsonl", "seeds.jsonl", "-o", "all.jsonl").code == 0
    assert datakit("validate", "all.jsonl", "--clean", "clean.jsonl").code == 1
    assert datakit("convert", "clean.jsonl", "-o", "mixed.jsonl", "--shuffle", "--seed", "5").code == 0
    ran = datakit("split", "mixed.jsonl", "--out-dir", "out", "--val", "0.2", "--json")
    assert ran.json["families"] == {"rows_made": 40, "seed_rows": 40, "seed_rows_found": 34}
    assert all(len(sides) == 1 for sides in sides_of(tmp_path / "out").values())
    (tmp_path / "all.jsonl").write_text("{}\n")  # the road is broken: it says so, and ties what it still can
    ran = datakit("split", "mixed.jsonl", "--out-dir", "out", "--val", "0.2", "--json")
    assert ran.json["families"]["seed_rows_found"] == 0
    assert "warning: 40 of these seed rows are not among the rows" in ran.err


def test_rows_made_from_made_rows_are_one_family_to_the_first_seed(tmp_path):
    rows = [dict(row, id=f"s{row['f']}") for row in seeds(10)]
    rows += [{"q": f"child {i}", "f": i, "id": f"c{i}", "_origin": {"seed_row": f"s{i}"}} for i in range(10)]
    rows += [{"q": f"grandchild {i}", "f": i, "_origin": {"seed_row": f"c{i}"}} for i in range(10)]
    split_rows([write(tmp_path / "all.jsonl", rows)], tmp_path / "out", val=9)
    assert all(len(sides) == 1 for sides in sides_of(tmp_path / "out").values())


def test_a_row_made_from_two_seed_rows_ties_both(tmp_path):
    rows = seeds(10) + [row for i in range(0, 10, 2) for row in made(i, [i + 1, i + 2])]
    split_rows([write(tmp_path / "all.jsonl", rows)], tmp_path / "out", val=5)
    found = sides_of(tmp_path / "out")
    assert all(found[i] == found[i + 1] and len(found[i]) == 1 for i in range(0, 10, 2))


def test_groups_and_families_are_joined(tmp_path):
    rows = [dict(row, user=row["f"] // 2) for row in seeds(20)] + [row for i in range(20) for row in made(i, i + 1)]
    outcome = split_rows([write(tmp_path / "all.jsonl", rows)], tmp_path / "out", val=16, by="user")
    found = sides_of(tmp_path / "out")
    assert all(found[i] == found[i + 1] and len(found[i]) == 1 for i in range(0, 20, 2))
    assert outcome.details["groups"]["largest"] == 8


def test_seed_rows_that_are_not_there_are_told_and_what_was_made_of_them_stays_together(datakit, tmp_path):
    write(tmp_path / "made.jsonl", [row for i in range(20) for row in made(i, {"file": "gone.jsonl", "row": i + 1})])
    ran = datakit("split", "made.jsonl", "--out-dir", "out", "--val", "9", "--json")
    assert ran.json["families"] == {"rows_made": 60, "seed_rows": 20, "seed_rows_found": 0}
    assert "warning: 20 of these seed rows are not among the rows" in ran.err
    assert all(len(sides) == 1 for sides in sides_of(tmp_path / "out").values())


@settings(max_examples=30)
@given(parents=st.lists(st.integers(-1, 12), min_size=3, max_size=40), val=st.integers(1, 8), seed=st.integers(0, 3))
def test_no_family_is_on_both_sides(tmp_path_factory, parents, val, seed):
    """Row i was made from row ``parents[i]`` where that comes before it; a family is a tree of such rows."""
    folder = tmp_path_factory.mktemp("families")
    family: list[int] = []
    rows: list[dict[str, Any]] = []
    for i, parent in enumerate(parents):
        has_parent = 0 <= parent < i
        family.append(family[parent] if has_parent else i)
        origin = {"_origin": {"seed_row": {"file": "rows.jsonl", "row": parent + 1}}} if has_parent else {}
        rows.append({"q": str(i), "f": family[i], **origin})
    if max(family.count(f) for f in family) + val >= len(rows):
        return
    split_rows([write(folder / "rows.jsonl", rows)], folder / "out", val=val, seed=seed)
    found = sides_of(folder / "out")
    assert found.keys() == set(family)
    assert all(len(sides) == 1 for sides in found.values())


def test_a_long_road_on_which_rows_were_left_behind_is_followed_to_its_end(datakit, write_rows, tmp_path):
    rows = [{"instruction": f"q{number}", "input": "", "output": "a"} for number in range(8)]
    write_rows("a1.jsonl", *rows[:4])
    write_rows("a2.jsonl", *rows[4:])
    datakit("convert", "a1.jsonl", "a2.jsonl", "-o", "b.jsonl")
    datakit("convert", "b.jsonl", "-o", "c.jsonl", "--limit", "3")  # none of a2 comes along
    datakit("convert", "c.jsonl", "-o", "d.jsonl")
    datakit("convert", "d.jsonl", "-o", "f.jsonl")
    made = [row | {"_origin": {"seed_row": {"file": str(tmp_path / "a1.jsonl"), "row": 2}}} for row in rows[4:6]]
    write_rows("e.jsonl", *made)
    assert datakit("split", "f.jsonl", "e.jsonl", "--val", "2", "--out-dir", "parts").code == 0
