"""datakit explain: the very row that a row came from, step by step, or the reason why it is not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakit.convert import convert_rows
from datakit.explain import explain_row
from datakit.split import split_rows
from datakit.validate import validate_rows
from datakit.write import open_sink
from registry.errors import UsageError
from registry.manifest import Ledger, build_manifest, manifest_path
from registry.rows import Row, read_rows
from tests.conftest import QWEN2, needs_shared

GOOD, EMPTY, BROKEN = "good", "empty", "broken"


def line_of(kind: str, number: int) -> str:
    """A row that any step keeps, one that validate rejects, or a line that nobody can read."""
    if kind == BROKEN:
        return f"no json {number}"
    return json.dumps({"instruction": f"q{number}", "input": "", "output": "" if kind == EMPTY else f"a{number}"})


def write_lines(path: Path, kinds: list[str], start: int = 0) -> Path:
    path.write_text("".join(f"{line_of(kind, n)}\n" for n, kind in enumerate(kinds, start=start)))
    return path


def step_line(found: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Each step as (command, file and row that it was done to)."""
    return [(step["command"], step["from"]["file"], step["from"]["row"]) for step in found["steps"]]


def test_a_row_is_followed_through_every_step_to_the_row_of_the_source(datakit, tmp_path):
    kinds = [GOOD, BROKEN, GOOD, EMPTY, GOOD, GOOD, EMPTY, GOOD, GOOD]
    write_lines(tmp_path / "in.jsonl", kinds)
    datakit("convert", "in.jsonl", "-o", "all.jsonl", "--to", "sharegpt")
    datakit("validate", "all.jsonl", "--clean", "clean.jsonl")
    found = datakit("explain", "clean.jsonl", "--row", "4", "--json").json
    assert step_line(found) == [("validate", "all.jsonl", 5), ("convert", "in.jsonl", 6)]
    assert {step["from"]["how"] for step in found["steps"]} == {"counted, content compared"}
    assert found["source"] == {
        "file": "in.jsonl", "row": 6, "data": {"instruction": "q5", "input": "", "output": "a5"},
    }  # fmt: skip
    assert found["road_ends"] == "no manifest tells what made in.jsonl"
    assert found["encoding"]["spans"]["1 user"] == [{"text": "q5", "trained": False}]


def test_people_get_one_paragraph_a_step(datakit, write_rows):
    write_rows("in.jsonl", {"q": "Hi", "a": "Yo", "id": 1}, {"q": "Hi", "a": None}, {"q": "Bye", "a": "Ciao", "id": 3})
    map_ = ["--map", "instruction=q", "--map", "output=a"]
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "alpaca", *map_)
    datakit("split", "out.jsonl", "--out-dir", "s", "--val", "1")
    side = "val" if "Bye" in datakit("preview", "s/val.jsonl").out else "train"
    assert datakit("explain", f"s/{side}.jsonl", "--row", "1", "--template", "chatml").out == (
        f"s/{side}.jsonl, row 1\n"
        '       {"instruction":"Bye","input":"","output":"Ciao"}\n'
        "\n"
        "1. split\n"
        f"   it went to {side}, with 1 of 2 rows (val 1, seed 42)\n"
        "   2 rows in, 2 out, 0 rejected\n"
        "   from out.jsonl, row 2  (counted, content compared)\n"
        "\n"
        "2. convert\n"
        "   read as alpaca (chat), written as alpaca\n"
        "   parts: instruction = q, output = a\n"
        "   left out: id\n"
        "   3 rows in, 2 out, 1 rejected\n"
        "   from in.jsonl, row 3  (counted, content compared)\n"
        '       {"q":"Bye","a":"Ciao","id":3}\n'
        "\n"
        "The road ends here: no manifest tells what made in.jsonl.\n"
        "\n"
        f"--- s/{side}.jsonl, row 1: chat\n"
        "text:\n"
        "    <|im_start|>user\n"
        "    Bye<|im_end|>\n"
        "    <|im_start|>assistant\n"
        "    [[Ciao<|im_end|>\n"
        "    ]]\n"
    )


def test_what_happened_to_the_columns_is_told(datakit, write_rows):
    write_rows("in.jsonl", {"q": "Hi {{name}}", "old": 3, "gone": None})
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--map", "question=q", "--map", "new=old", "--fill", "name=Bo")
    found = datakit("explain", "out.jsonl", "--row", "1", "--json").json
    assert found["steps"][0]["done"][:3] == ["renamed: new = old", "left out: q", "added: question"]
    assert found["encoding"] is None
    assert "its columns belong to no known format" in datakit("explain", "out.jsonl", "--row", "1").out


@settings(max_examples=20)
@given(
    first=st.lists(st.sampled_from([GOOD, GOOD, EMPTY, BROKEN]), min_size=4, max_size=25),
    second=st.lists(st.sampled_from([GOOD, EMPTY, BROKEN]), min_size=4, max_size=12),
    shuffle=st.booleans(),
    where=st.sampled_from([None, "output <> 'a3' and length(instruction) < 4"]),
    limit=st.none() | st.integers(3, 30),
    ending=st.sampled_from([".jsonl", ".parquet", ".csv", ".json"]),
)
def test_every_row_leads_to_the_row_it_was_whatever_the_steps(
    tmp_path_factory, first, second, shuffle, where, limit, ending
):
    folder = tmp_path_factory.mktemp("road")
    one, other = write_lines(folder / "1.jsonl", [GOOD, *first]), write_lines(folder / "2.jsonl", [*second, GOOD], 100)
    convert_rows([one, other], folder / f"all{ending}", shuffle=shuffle, seed=3, where=where, limit=limit)
    if validate_rows([folder / f"all{ending}"], clean=folder / "clean.jsonl").rows_out < 4:
        return
    split_rows([folder / "clean.jsonl"], folder / "s", val=0.3)
    for side in ("train", "val"):
        path = folder / "s" / f"{side}.jsonl"
        for row in read_rows([path]):
            assert isinstance(row, Row)
            found = explain_row(str(path), row.number)
            assert [hop.command for hop in found.hops] == ["split", "validate", "convert"]
            last = found.hops[-1].before
            assert last is not None, found.end
            assert {hop.before and hop.before.how for hop in found.hops} == {"counted, content compared"}
            assert last.row.data["instruction"] == row.data["instruction"]
            start = 0 if Path(last.path).name == "1.jsonl" else 100
            assert last.row.number == int(str(row.data["instruction"]).removeprefix("q")) - start + 1


def test_rows_of_shards_are_counted_across_them(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [GOOD] * 10)
    rows = [row for row in read_rows([source]) if isinstance(row, Row)]
    with open_sink(tmp_path / "part-{:03d}.jsonl", None, [str(source)], 4) as sink:
        for row in rows:
            sink.ledger.read(row.file)
            sink.accept(row, row.data)
        options = {"from": "auto", "to": "keep", "map": {}, "fill": {}}
        sink.close_books("convert", options, [str(source)], {})
    for number in range(1, 11):
        shard, row = divmod(number - 1, 4)
        found = explain_row(str(tmp_path / f"part-{shard:03d}.jsonl"), row + 1)
        assert found.hops[0].before is not None
        assert (found.hops[0].before.row.number, found.hops[0].before.how) == (number, "counted, content compared")


def test_one_row_that_became_two_is_found_from_both(datakit, write_rows):
    rows = [{"instruction": f"q{i}", "chosen": f"good{i}", "rejected": f"bad{i}"} for i in range(4)]
    write_rows("in.jsonl", *rows)
    datakit("convert", "in.jsonl", "-o", "out.jsonl", "--to", "kto")
    for number in range(1, 9):
        found = datakit("explain", "out.jsonl", "--row", str(number), "--json").json
        assert step_line(found) == [("convert", "in.jsonl", (number + 1) // 2)]


def test_of_a_kept_row_the_duplicates_are_told_and_of_a_dropped_one_what_was_kept(datakit, write_rows):
    texts = ["one", "two", "one", "three", "one"]
    write_rows("in.jsonl", *({"text": text} for text in texts))
    datakit("dedup", "in.jsonl", "-o", "out.jsonl")
    found = datakit("explain", "out.jsonl", "--row", "1", "--json").json
    assert (
        found["steps"][0]["done"][0]
        == "it was kept, and these were dropped for it: row 3 of in.jsonl, row 5 of in.jsonl"
    )
    found = datakit("explain", "out.jsonl", "--row", "3", "--json").json
    assert step_line(found) == [("dedup", "in.jsonl", 4)]
    found = datakit("explain", "out.jsonl.rejects.jsonl", "--row", "2", "--json").json
    assert found["steps"][0]["command"] == "rejected by dedup"
    assert found["steps"][0]["done"] == ["exact duplicate; in.jsonl, row 1 was kept in its place (similarity 1)"]
    assert step_line(found) == [("rejected by dedup", "in.jsonl", 5)]


def test_a_rejected_row_is_followed_from_the_file_of_rejects(datakit, tmp_path):
    write_lines(tmp_path / "in.jsonl", [GOOD, EMPTY, BROKEN, GOOD])
    datakit("convert", "in.jsonl", "-o", "all.jsonl")
    datakit("validate", "all.jsonl", "--clean", "clean.jsonl")
    found = datakit("explain", "clean.jsonl.rejects.jsonl", "--row", "1", "--json").json
    assert step_line(found) == [("rejected by validate", "all.jsonl", 2), ("convert", "in.jsonl", 2)]
    assert "empty" in found["steps"][0]["done"][0]
    found = datakit("explain", "all.jsonl.rejects.jsonl", "--row", "1", "--json").json
    assert found["steps"][0]["from"] is None
    assert found["road_ends"].startswith("in.jsonl, row 3 cannot be read: not JSON")


def test_a_row_that_was_mended_is_found_by_counting_alone(datakit, write_rows):
    turns = [[("human", "a"), ("gpt", f"b{i}")] if i != 1 else [("user", "a"), ("gpt", "b1")] for i in range(3)]
    write_rows("in.jsonl", *({"conversations": [{"from": f, "value": v} for f, v in pairs]} for pairs in turns))
    datakit("validate", "in.jsonl", "--clean", "out.jsonl", "--fix")
    steps = [datakit("explain", "out.jsonl", "--row", n, "--json").json["steps"][0] for n in (1, 2)]
    assert [step["from"] for step in steps] == [
        {"file": "in.jsonl", "row": 1, "how": "counted, content compared"},
        {"file": "in.jsonl", "row": 2, "how": "counted"},
    ]
    assert steps[1]["done"][:2] == ["it was mended (--fix), and no error is left in it", "changed: conversations"]


@pytest.mark.parametrize(
    ("change", "steps", "end"),
    [
        (lambda folder: (folder / "in.jsonl").unlink(), 2, "in.jsonl is not there any more"),
        (
            lambda folder: (folder / "in.jsonl").write_text("{}\n"),
            2,
            "in.jsonl has changed since: it is not what was read",
        ),
        (
            lambda folder: (folder / "clean.jsonl").open("a").write("{}\n"),
            0,
            "clean.jsonl has changed since it was made",
        ),
        (
            lambda folder: (folder / "all.jsonl.manifest.json").write_text("{"),
            1,
            "all.jsonl.manifest.json cannot be read",
        ),
        (lambda folder: (folder / "all.jsonl.manifest.json").unlink(), 1, "no manifest tells what made all.jsonl"),
    ],
)
def test_where_a_file_is_not_what_the_manifest_says_the_road_ends_and_says_so(datakit, tmp_path, change, steps, end):
    write_lines(tmp_path / "in.jsonl", [GOOD, BROKEN, GOOD])
    datakit("convert", "in.jsonl", "-o", "all.jsonl")
    datakit("validate", "all.jsonl", "--clean", "clean.jsonl")
    change(tmp_path)
    found = datakit("explain", "clean.jsonl", "--row", "2", "--json").json
    assert (len(found["steps"]), found["road_ends"][: len(end)]) == (steps, end)
    assert "The road ends here: " + end in datakit("explain", "clean.jsonl", "--row", "2").out


def test_where_the_list_of_rejects_is_gone_the_row_is_known_by_its_content_if_that_is_its_own(datakit, tmp_path):
    write_lines(tmp_path / "in.jsonl", [GOOD, BROKEN, GOOD])
    with (tmp_path / "in.jsonl").open("a") as handle:
        handle.write(line_of(GOOD, 0) + "\n")
    datakit("convert", "in.jsonl", "-o", "all.jsonl")
    (tmp_path / "all.jsonl.rejects.jsonl").unlink()
    found = datakit("explain", "all.jsonl", "--row", "2", "--json").json
    assert found["steps"][0]["from"] == {"file": "in.jsonl", "row": 3, "how": "the only row with its content"}
    found = datakit("explain", "all.jsonl", "--row", "3", "--json").json
    assert found["road_ends"] == (
        "all.jsonl.rejects.jsonl is not there any more; and several rows have its content: in.jsonl, row 1, in.jsonl, row 4"
    )
    assert "from a row of in.jsonl that is not known" in datakit("explain", "all.jsonl", "--row", "3").out


def test_files_that_were_moved_together_are_still_found(datakit, tmp_path):
    (tmp_path / "work").mkdir()
    write_lines(tmp_path / "work/in.jsonl", [GOOD, BROKEN, GOOD])
    datakit("convert", "work/in.jsonl", "-o", "work/all.jsonl")
    (tmp_path / "work").rename(tmp_path / "elsewhere")
    found = datakit("explain", "elsewhere/all.jsonl", "--row", "2", "--json").json
    assert step_line(found) == [("convert", "elsewhere/in.jsonl", 3)]


def made(folder: Path, name: str, rows: list[dict[str, Any]], source: str) -> None:
    """A file as `datakit augment` leaves it."""
    (folder / name).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    manifest = build_manifest("augment", {"recipe": "vary"}, [source], Ledger(), [folder / name])
    manifest_path(folder / name).write_bytes(orjson.dumps(manifest))


@pytest.mark.parametrize("seed_row", [4, {"file": "in.jsonl", "row": 4}, {"id": "s3"}, "s3"])
@pytest.mark.parametrize("told", [True, False])
def test_a_row_that_a_model_made_leads_to_its_seed_row(datakit, write_rows, tmp_path, seed_row, told):
    write_rows("in.jsonl", *({"id": f"s{i}", "instruction": f"q{i}", "output": "a"} for i in range(6)))
    origin = {"seed_row": seed_row, "recipe": "vary", "model": "m-1", "request": "r9"}
    made(tmp_path, "made.jsonl", [{"instruction": "new", "output": "x", "_origin": origin}], "in.jsonl")
    if not told:
        manifest_path(tmp_path / "made.jsonl").unlink()
    found = datakit("explain", "made.jsonl", "--row", "1", "--json").json
    assert found["steps"][0]["command"] == "augment"
    assert found["steps"][0]["done"][0] == "a model made it: recipe vary, model m-1, request r9"
    if told or (isinstance(seed_row, dict) and "file" in seed_row):
        assert step_line(found) == [("augment", "in.jsonl", 4)]
        assert found["steps"][0]["from"]["how"] == "named by its _origin"
    else:
        assert found["steps"][0]["from"] is None
        assert "seed row" in found["road_ends"]


def test_a_row_that_names_itself_as_its_seed_leads_in_a_circle(datakit, write_rows):
    write_rows("in.jsonl", {"text": "a", "_origin": {"seed_row": {"file": "in.jsonl", "row": 1}}})
    found = datakit("explain", "in.jsonl", "--row", "1", "--json").json
    assert found["road_ends"] == "in.jsonl, row 1 was met before: the road leads in a circle"


def test_the_entries_that_name_the_file_are_told(datakit, write_rows):
    path = write_rows("in.jsonl", {"instruction": "a", "output": "b"})
    datakit("register", "in.jsonl", "--name", "mine")
    assert datakit("explain", "in.jsonl", "--row", "1", "--json").json["registered"] == [
        '"mine" in data/dataset_info.json'
    ]
    path.write_text('{"instruction": "a", "output": "c"}\n')
    ran = datakit("explain", "in.jsonl", "--row", "1")
    assert 'Registered as "mine" in data/dataset_info.json, and the file has changed since.' in ran.out


def test_a_row_that_cannot_be_read_is_told_with_its_reason(datakit, tmp_path):
    write_lines(tmp_path / "in.jsonl", [GOOD, BROKEN])
    found = datakit("explain", "in.jsonl", "--row", "2", "--json").json
    assert (found["steps"], found["road_ends"]) == ([], "the row cannot be read")
    assert "not JSON" in found["encoding"]["fault"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["in.jsonl", "--row", "7"], "there is no such row; the last one is row 3"),
        (["in.jsonl", "--row", "2"], "this line is blank, so there is no such row"),
        (["gone.jsonl", "--row", "1"], "no such file or folder"),
        (["-", "--row", "1"], "of stdin nothing is left"),
        (["two", "--row", "1"], "this is 2 files, and a row is one of one file"),
        (["in.jsonl", "--row", "1", "--template", "chatmll"], 'Did you mean "chatml"'),
    ],
)
def test_what_is_no_row_of_a_file_is_refused(datakit, tmp_path, arguments, told):
    (tmp_path / "in.jsonl").write_text(f"{line_of(GOOD, 1)}\n\n{line_of(GOOD, 2)}\n")
    (tmp_path / "two").mkdir()
    for name in ("1.jsonl", "2.jsonl"):
        write_lines(tmp_path / "two" / name, [GOOD])
    ran = datakit("explain", *arguments)
    assert ran.code == 2
    assert told in ran.err


def test_rows_cannot_drive_the_terminal(datakit, write_rows):
    write_rows("in.jsonl", {"text": "\x1b[2J", "_origin": {"seed_row": "x", "model": "\x1b[2J"}})
    assert "\x1b" not in datakit("explain", "in.jsonl", "--row", "1").out


@needs_shared
def test_with_a_model_the_tokens_are_counted(datakit, write_rows):
    write_rows("in.jsonl", {"instruction": "Hi", "output": "Hello there"})
    assert "(4 of 24 tokens trained)" in datakit("explain", "in.jsonl", "--row", "1", "--model", QWEN2).out


def test_a_manifest_of_another_version_is_not_misread(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [GOOD])
    convert_rows([source], tmp_path / "out.jsonl")
    path = tmp_path / "out.jsonl.manifest.json"
    path.write_text(path.read_text().replace('"manifest_version": 1', '"manifest_version": 9'))
    assert explain_row(str(tmp_path / "out.jsonl"), 1).end.endswith("is of format version 9, not 1")
    with pytest.raises(UsageError, match="there is no such row"):
        explain_row(str(tmp_path / "out.jsonl"), 2)
