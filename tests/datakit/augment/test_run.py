"""Whole runs against an honest server: each recipe, each kind of file, and the options that shape what is written."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from datakit.augment.budget import Limits
from datakit.augment.store import AnswerStore
from datakit.outcome import Outcome
from datakit.recipes.recipe import load_recipe
from registry.errors import UsageError
from tests.datakit.augment.runs import KEY, read, rejects, run, seeds, write
from tests.datakit.faults.server import FaultServer, key_hash

N = 3
ROWS = 3
PLACES = "You find the office of the harbour at the northern quay, behind the customs house. "


@pytest.fixture(scope="module")
def shared() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture
def server(shared: FaultServer, folder: Path) -> FaultServer:
    """An honest server as new, and a folder with a key."""
    shared.reset()
    return shared


def documents(language: str) -> list[dict[str, Any]]:
    sentence = PLACES if language == "en" else "港口办公室在北码头，海关大楼的后面，早上八点开门。"
    return [{"text": "".join(f"{sentence}{number}. " for number in range(at, at + 4)), "id": at} for at in range(ROWS)]


def prepared(recipe: str, language: str) -> dict[str, Any]:
    """The sources and options of a small run of ``recipe``."""
    options: dict[str, Any] = {"recipe": recipe, "language": language, "n": N, "allow": ("language",)}
    if recipe == "persona":
        return {**options, "src": (), "values": {"name": "Ada", "author": "the Lab"}}
    if recipe == "qa-from-text":
        write(Path("seeds.jsonl"), documents(language))
        return options
    rows = seeds(ROWS, language)
    if recipe == "answer":
        rows[1]["output"] = ""
    write(Path("seeds.jsonl"), rows)
    return {**options, "values": {"to": "German"}} if recipe == "translate" else options


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    "recipe",
    [
        "expand", "paraphrase", "evolve", "self-instruct", "answer", "think", "multi-turn", "qa-from-text", "translate",
        "preference", "judge", "persona",
    ],
)  # fmt: skip
def test_each_recipe_makes_its_rows_in_order_and_a_second_run_asks_nothing(server, folder, recipe, language):
    options = prepared(recipe, language)
    outcome = run(server.url, **options)
    prompt = load_recipe(recipe, language).prompt
    made = read("more.jsonl")
    assert outcome.exit_code == 0
    assert not rejects()

    # The rows: as many as asked for, in the seeds' format and order, each with all of its origin.
    wanted = ROWS if prompt.makes == "same" else N if recipe == "persona" else N * ROWS
    assert wanted <= len(made) <= wanted + prompt.per_call  # draws of a pool come in whole calls
    assert len(made) == outcome.rows_out
    origins = [row["_origin"] for row in made]
    assert {origin["recipe"] for origin in origins} == {f"{recipe}/{language}@{prompt.version}"}
    if recipe not in ("self-instruct", "persona"):
        places = [origin["seed_row"] for origin in origins]
        assert places == sorted(places)
        assert set(places) == set(range(1, ROWS + 1))
    for row in made:
        columns = (
            {"instruction", "input", "chosen", "rejected"} if recipe == "preference" else {"instruction", "output"}
        )
        assert columns <= row.keys()
        assert ("id" in row) == (prompt.makes == "same")

    # Every answer that a row comes from is in the store.
    with AnswerStore("more.jsonl.store.sqlite") as store:
        for origin in origins:
            keys = origin.get("requests", [origin["request"]])
            if keys == [None]:
                assert recipe == "answer"  # a row that had an answer passes as it is
                continue
            assert all(store.get(key) is not None for key in keys)
            assert origin["model"] == "m"
        assert store.count() == len(server.stats.requests)

    # Nothing is bought twice, and nothing changes.
    before = Path("more.jsonl").read_bytes()
    asked = len(server.stats.requests)
    again = run(server.url, **options)
    assert len(server.stats.requests) == asked
    assert Path("more.jsonl").read_bytes() == before
    assert again.details["calls"]["from_store"] == again.details["calls"]["calls"]
    conserved(again)


def conserved(outcome: Outcome) -> None:
    gone = outcome.num_rejected + sum(outcome.filtered.values())
    assert outcome.rows_in + outcome.rows_added == outcome.rows_out + gone


SHAREGPT = [
    {
        "conversations": [{"from": "human", "value": row["instruction"]}, {"from": "gpt", "value": row["output"]}],
        "id": 1,
    }
    for row in seeds(2)
]
OPENAI = [
    {
        "messages": [
            {"role": "system", "content": "You are a gardener."},
            {"role": "user", "content": row["instruction"]},
            {"role": "assistant", "content": row["output"]},
        ],
        "id": 1,
    }
    for row in seeds(2)
]


@pytest.mark.parametrize(
    ("rows", "column"), [(SHAREGPT, "conversations"), (OPENAI, "messages")], ids=["sharegpt", "openai"]
)
@pytest.mark.parametrize("recipe", ["expand", "think", "multi-turn"])
def test_rows_come_out_in_the_format_of_their_seeds(server, rows, column, recipe):
    write(Path("seeds.jsonl"), rows)
    run(server.url, recipe=recipe, n=2)
    made = read("more.jsonl")
    assert len(made) == (4 if recipe == "expand" else 2)
    for row in made:
        assert isinstance(row[column], list)
        assert ("id" in row) == (recipe != "expand")
        if column == "messages":
            assert row[column][0] == {"role": "system", "content": "You are a gardener."}


def test_to_writes_another_format(server):
    write(Path("seeds.jsonl"), seeds(2))
    run(server.url, recipe="expand", n=2, to_format="openai")
    assert [list(row) for row in read("more.jsonl")] == [["messages", "_origin"]] * 4


def test_rows_keep_no_origin_where_none_is_wanted(server):
    write(Path("seeds.jsonl"), seeds(2))
    run(server.url, origin=False)
    assert [list(row) for row in read("more.jsonl")] == [["id", "instruction", "input", "output"]] * 2


def test_n_and_set_shape_what_is_asked(server):
    write(Path("seeds.jsonl"), seeds(1))
    run(server.url, recipe="expand", n=7, values={"tone": "as dry as dust"})
    assert len(read("more.jsonl")) == 7
    bodies = [orjson.loads(seen.body)["messages"][-1]["content"] for seen in server.stats.requests]
    assert len(bodies) == 2  # five and two
    assert all("as dry as dust" in text for text in bodies)


def test_sampling_of_the_command_line_goes_into_each_request(server):
    write(Path("seeds.jsonl"), seeds(1))
    run(server.url, temperature=0.25, top_p=0.5, max_tokens=2000)
    (seen,) = server.stats.requests
    body = orjson.loads(seen.body)
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.25, 0.5, 2000)
    assert seen.key == key_hash(KEY)


def test_each_row_is_asked_about_in_its_own_language(server):
    write(Path("seeds.jsonl"), [*seeds(1), *seeds(1, "zh", start=1)])
    run(server.url, recipe="expand", n=1)
    assert [row["_origin"]["recipe"].split("@")[0] for row in read("more.jsonl")] == ["expand/en", "expand/zh"]


def test_rows_are_scored_and_those_below_the_mark_dropped_with_the_reason(server):
    write(Path("seeds.jsonl"), seeds(4))
    first = run(server.url, recipe="expand", n=4, judge=True)
    scores = [row["_origin"]["score"] for row in read("more.jsonl")]
    assert len(scores) == 16
    asked = len(server.stats.requests)
    mark = sorted(scores)[8]
    assert mark > min(scores)
    second = run(server.url, recipe="expand", n=4, judge=True, min_score=mark)
    assert len(server.stats.requests) == asked  # the scores are in the store
    assert [row["_origin"]["score"] for row in read("more.jsonl")] == [score for score in scores if score >= mark]
    dropped = sum(score < mark for score in scores)
    assert second.filtered["score"] == dropped == len(read("more.jsonl.drops.jsonl"))
    conserved(first)
    conserved(second)


def test_rows_that_stand_elsewhere_already_are_dropped(server):
    write(Path("seeds.jsonl"), seeds(2))
    run(server.url, recipe="expand", n=2)
    made = read("more.jsonl")
    write(Path("known.jsonl"), [{name: made[0][name] for name in ("instruction", "input", "output")}])
    outcome = run(server.url, recipe="expand", n=2, against=("known.jsonl",))
    assert read("more.jsonl") == made[1:]
    assert outcome.rows_out == 3


# ---- files -----------------------------------------------------------------------------------------------------------


def test_rows_come_from_stdin(server, monkeypatch):
    spelled = b"".join(orjson.dumps(row) + b"\n" for row in seeds(2))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(spelled)))
    outcome = run(server.url, ["-"])
    assert (outcome.rows_in, len(read("more.jsonl"))) == (2, 2)


def test_rows_go_to_stdout_where_a_store_is_named(server, capfdbinary):
    write(Path("seeds.jsonl"), seeds(2))
    with pytest.raises(UsageError, match="--store FILE"):
        run(server.url, out="-")
    run(server.url, out="-", store=Path("answers.sqlite"))
    lines = capfdbinary.readouterr().out.splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == [0, 1]


def test_parquet_and_compressed_files_go_in_and_out(server):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(seeds(2)), "seeds.parquet")
    run(server.url, ["seeds.parquet"], "more.parquet")
    made = pq.read_table("more.parquet").to_pylist()
    assert [(row["id"], row["_origin"]["seed_row"]) for row in made] == [(0, 1), (1, 2)]
    Path("seeds.jsonl.gz").write_bytes(gzip.compress(write(Path("plain.jsonl"), seeds(2)).read_bytes()))
    run(server.url, ["seeds.jsonl.gz"], "more.jsonl.gz")
    lines = gzip.decompress(Path("more.jsonl.gz").read_bytes()).splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == [0, 1]
    assert len(server.stats.requests) == 4  # the same questions, but each output has a store of its own


def test_several_files_are_told_apart_in_the_origin(server):
    write(Path("a.jsonl"), seeds(2))
    write(Path("b.jsonl"), seeds(1, start=9))
    outcome = run(server.url, ["a.jsonl", "b.jsonl"])
    assert [row["_origin"]["seed_row"] for row in read("more.jsonl")] == [
        {"file": "a.jsonl", "row": 1},
        {"file": "a.jsonl", "row": 2},
        {"file": "b.jsonl", "row": 1},
    ]
    assert outcome.rows_in == 3


def test_documents_are_cut_into_pieces_that_each_get_their_questions(server):
    write(Path("seeds.jsonl"), [{"text": " ".join(f"word{n}" for n in range(400))}, {"text": "A short one."}])
    outcome = run(server.url, recipe="qa-from-text", n=2, chunk_tokens=120, chunk_overlap=20)
    places = [row["_origin"]["seed_row"] for row in read("more.jsonl")]
    assert places.count(1) >= 6
    assert places.count(2) == 2
    assert places == sorted(places)
    conserved(outcome)


REWRITE = """---
name: rewrite
version: 1
language: en
summary: documents in other words
seeds: text
output: text
makes: same
stages: [pt]
inputs: {}
sampling: {}
---
Say this in other words.

{{ seed.text }}
"""


def test_a_long_document_that_stays_one_row_by_a_users_recipe_makes_a_row_of_each_piece(server):
    """One row in, several out: all of them are accounted for."""
    Path("rewrite.md").write_text(REWRITE)
    write(Path("seeds.jsonl"), [{"text": " ".join(f"word{n}" for n in range(400))}, {"text": "A short one."}])
    outcome = run(server.url, recipe="rewrite.md", chunk_tokens=120, chunk_overlap=0, allow=("echo", "language"))
    assert [row["_origin"]["seed_row"] for row in read("more.jsonl")] == [1, 1, 1, 1, 2]
    assert (outcome.rows_in, outcome.rows_added, outcome.rows_out) == (2, 3, 5)


def test_rows_that_cannot_be_read_are_rejected_and_the_others_made(server):
    bad = b'{"instruction": "Q?", "output": 7}\nno json\n'
    rows = write(Path("seeds.jsonl"), seeds(2)).read_bytes().splitlines(keepends=True)
    Path("seeds.jsonl").write_bytes(rows[0] + bad + rows[1])
    outcome = run(server.url)
    assert [row["_origin"]["seed_row"] for row in read("more.jsonl")] == [1, 4]
    assert [(one["row"], bool(one["reason"])) for one in rejects()] == [(2, True), (3, True)]
    assert outcome.exit_code == 0
    assert run(server.url, strict=True).exit_code == 1


def test_half_a_character_in_a_seed_costs_that_row_only(server):
    """JSON arrays are read with Python's decoder, which lets it pass."""
    rows = orjson.dumps(seeds(2)).replace(b"oak tree that", b"oak\\ud800 tree that")
    Path("seeds.json").write_bytes(rows)
    outcome = run(server.url, ["seeds.json"])
    assert (outcome.rows_out, outcome.num_rejected) == (1, 1)
    assert "half a character" in rejects()[0]["reason"]


def test_values_that_are_no_ones_business_pass_as_they_are(server):
    rows = seeds(1)
    spelled = orjson.dumps(rows[0]).replace(b'"id":0', b'"id":' + b"9" * 300)
    Path("seeds.jsonl").write_bytes(spelled + b"\n")
    run(server.url, recipe="judge")
    assert b'"id":' + b"9" * 300 + b"," in Path("more.jsonl").read_bytes()


def test_a_column_nested_beyond_all_measure_costs_that_row_only(server):
    rows = seeds(2)
    deep = b"[" * 900 + b"]" * 900
    spelled = [orjson.dumps(row) for row in rows]
    spelled[0] = spelled[0].replace(b'"id":0', b'"id":' + deep)
    Path("seeds.jsonl").write_bytes(b"\n".join(spelled))
    outcome = run(server.url)
    assert outcome.rows_out == 1
    assert outcome.num_rejected == 1


def test_a_report_and_a_manifest_lie_beside_the_rows(server):
    write(Path("seeds.jsonl"), seeds(2))
    run(server.url, recipe="expand", n=2, html=Path("report.html"))
    manifest = orjson.loads(Path("more.jsonl.manifest.json").read_bytes())
    assert (manifest["command"], manifest["rows_in"], manifest["rows_out"]) == ("augment", 2, 4)
    assert manifest["options"]["recipe"] == "expand"
    assert manifest["details"]["calls"]["requests"] == 2
    assert "<html" in Path("report.html").read_text("utf-8")


def test_what_is_wrong_as_a_whole_is_told_before_anything_is_asked(server):
    write(Path("seeds.jsonl"), seeds(2))
    write(Path("texts.jsonl"), documents("en"))
    for options, told in [
        ({"recipe": "expnd"}, "expand"),
        ({"recipe": "translate"}, "to"),
        ({"recipe": "expand", "values": {"tune": "x"}}, "tone"),
        ({"recipe": "persona", "values": {"name": "A", "author": "B"}}, "takes no rows"),
        ({"recipe": "expand", "src": ()}, "no source is named"),
        ({"recipe": "expand", "src": ("texts.jsonl",)}, "questions and answers"),
        ({"recipe": "qa-from-text"}, "documents"),
        ({"recipe": "preference", "values": {"mode": "judgd"}}, "judged"),
        ({"limits": Limits(cost=1.0)}, "--price IN,OUT"),
        ({"out": "seeds.jsonl"}, "one of the sources"),
        ({"out": "more.xlsx"}, "Known endings"),
        ({"rejects": "bad.parquet"}, "Known endings"),
        ({"html": Path("report.pdf")}, "Known endings"),
        ({"against": ("nowhere.jsonl",)}, "nowhere.jsonl"),
        ({"base_urls": ("localhost:8000",)}, "no address"),
    ]:
        with pytest.raises(UsageError) as refused:
            run(server.url, **options)
        assert told in str(refused.value), options
    assert server.stats.requests == []
    assert not Path("more.jsonl").exists()
