"""The verb augment in a pipeline: its options, when it runs again, and how it stops; against a server on this machine."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from datakit.augment.options import AugmentOptions
from datakit.augment.store import AnswerStore
from datakit.commands.augment import augment
from datakit.pipeline import run_pipeline
from datakit.pipeline.augmenting import augment_options
from datakit.pipeline.run import PipelineResult
from datakit.pipeline.state import State, fingerprint_of
from datakit.pipeline.steps import OPTIONS, inputs_of, outputs_of
from datakit.pipeline.things import Hashes, Thing, is_there, makes, thing
from datakit.recipes import recipe as recipes
from registry.errors import Faults
from tests.datakit.faults.server import FaultServer

STEP = "augment: {{src: rows.jsonl, out: more.jsonl, recipe: paraphrase, n: 2, model: m1, base-url: '{url}'{more}}}"
KEY = "sk-plain-to-see"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two rows, and no key anywhere."""
    for name in ("OPENAI_API_KEY", "OPENAI_API_KEYS", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    rows = [{"instruction": f"How do I reset router {n}?", "output": f"Press the button {n} times."} for n in (1, 2)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def pipeline(folder: Path, *steps: str) -> Path:
    (folder / "p.yaml").write_text("steps:\n" + "".join(f"  - {step}\n" for step in steps), encoding="utf-8")
    return folder / "p.yaml"


def run(path: Path, **options: Any) -> PipelineResult:
    return run_pipeline(path, **{"from_step": None, "dry_run": False, "show": False, "quiet": True, **options})


def states(result: PipelineResult) -> list[tuple[str, str]]:
    return [(line.state, line.why) for line in result.lines]


def faults(folder: Path, options: str) -> str:
    with pytest.raises(Faults) as caught:
        run(pipeline(folder, f"augment: {{{options}}}"))
    return "\n".join(caught.value.faults)


# ------------------------------------------------------------------------------------------------ running and skipping


def test_rows_are_made_counted_and_reported_under_a_title(folder: Path):
    with FaultServer() as server:
        path = pipeline(folder, STEP.format(url=server.url, more="") + "\n    show: the report")
        result = run(path)
        assert len(server.stats.requests) == 2
    (line,) = result.lines
    assert (line.state, line.result.rows_in, line.note) == ("done", 2, "2 answers")
    assert len((folder / "more.jsonl").read_text().splitlines()) == line.result.rows_out
    assert line.result.outputs == ("more.jsonl",)
    assert "4 made of 2 seeds" in result.shown["the report"]
    assert "recorded" not in result.shown["the report"].lower()


def test_a_second_run_asks_nothing_and_shows_the_same_report(folder: Path):
    with FaultServer() as server:
        path = pipeline(folder, STEP.format(url=server.url, more="") + "\n    show: the report")
        first = run(path)
        asked = len(server.stats.requests)
        second = run(path)
        assert len(server.stats.requests) == asked
    assert states(second) == [("skipped", "nothing changed")]
    assert second.shown == first.shown


def test_a_row_more_costs_the_calls_of_that_row(folder: Path):
    with FaultServer() as server:
        path = pipeline(folder, STEP.format(url=server.url, more=""))
        run(path)
        with (folder / "rows.jsonl").open("a") as handle:
            handle.write('{"instruction": "Is it loud?", "output": "No."}\n')
        result = run(path)
        assert len(server.stats.requests) == 3
    assert states(result) == [("done", "rows.jsonl changed")]
    assert result.lines[0].note == "1 answer, 2 answers from the store"


@pytest.mark.parametrize("change", [Path.unlink, Path.touch, lambda store: shutil.copy(store, f"{store}.copy")])
def test_what_becomes_of_the_store_makes_no_step_run(folder: Path, change):
    with FaultServer() as server:
        path = pipeline(folder, STEP.format(url=server.url, more=", store: kept.sqlite"))
        run(path)
        change(folder / "kept.sqlite")
        assert states(run(path)) == [("skipped", "nothing changed")]


def test_from_reads_the_store_again(folder: Path):
    with FaultServer() as server:
        path = pipeline(folder, "name: more\n    " + STEP.format(url=server.url, more=""))
        run(path)
        result = run(path, from_step="more")
        assert len(server.stats.requests) == 2
    assert (states(result), result.lines[0].note) == ([("done", "--from")], "2 answers from the store")


def test_steps_may_share_a_store_and_what_one_makes_the_next_takes_up(folder: Path):
    with FaultServer() as server:
        first = STEP.format(url=server.url, more=", store: kept.sqlite")
        second = first.replace("rows.jsonl", "more.jsonl").replace("out: more", "out: most")
        result = run(pipeline(folder, first, second))
    assert result.exit_code == 0
    assert (folder / "most.jsonl").exists()


def test_another_recipe_text_makes_the_step_run(folder: Path, monkeypatch: pytest.MonkeyPatch):
    own = folder / "own.md"
    text = (recipes.FOLDER / "paraphrase" / "en.md").read_text("utf-8").replace("name: paraphrase", "name: own")
    own.write_text(text, "utf-8")
    with FaultServer() as server:
        path = pipeline(folder, STEP.format(url=server.url, more="").replace("paraphrase", "own.md"))
        run(path)
        own.write_text(text.replace("New wordings wanted", "Wordings wanted"), "utf-8")
        assert states(run(path)) == [("done", "own.md changed")]


def test_a_shipped_recipe_counts_by_its_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    (tmp_path / "expand").mkdir()
    (tmp_path / "expand" / "en.md").write_text("one")
    first = Hashes().of(Thing("expand", "recipe"))
    assert Hashes().of(Thing("expand", "recipe")) == first
    (tmp_path / "expand" / "zh.md").write_text("two")
    assert Hashes().of(Thing("expand", "recipe")) != first
    assert not is_there(Thing("gone", "recipe"))
    assert not makes(thing("expand"), Thing("expand", "recipe"))


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"recipe": "paraphrase"}, ["recipe paraphrase"]),
        ({"recipe": "evolve", "judge": True}, ["recipe evolve", "recipe answer", "recipe judge"]),
        ({"recipe": "mine.md", "src": ["a.jsonl"], "against": ["b.jsonl"], "prices": "p.yaml", "store": "s.sqlite"},
         ["a.jsonl", "b.jsonl", "p.yaml", "mine.md", "recipe answer"]),
    ],
)  # fmt: skip
def test_a_step_reads_its_rows_its_prices_and_its_recipes_but_not_its_store(options, labels):
    assert [one.label for one in inputs_of("augment", options)] == labels


def test_a_step_makes_its_rows_and_its_page():
    options = {"out": "more.jsonl", "html": "r.html", "rejects": "no.jsonl", "store": "s.sqlite"}
    assert outputs_of("augment", options) == [thing("more.jsonl"), thing("r.html")]


# ------------------------------------------------------------------------------------------------------ where it stops


def test_a_budget_that_is_used_up_stops_the_pipeline_with_3_and_the_same_run_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    with FaultServer() as server:
        step = STEP.format(url=server.url, more=", workers: 1, budget_requests: 1")
        path = pipeline(folder, step, "validate: {src: more.jsonl, clean: clean.jsonl}")
        result = run(path)
        assert result.exit_code == 3
        assert [state for state, _ in states(result)] == ["failed", "waiting"]
        told = capsys.readouterr().err
        assert 'step "augment 1" stopped: ' in told
        assert "is used up" in told
        assert f"Go on where it stopped:  datakit run {path}" in told
        again = run(path)  # the budget is one of each run
        assert (again.exit_code, len(server.stats.requests)) == (0, 2)
    assert states(again)[0] == ("done", "did not finish last time")
    assert again.lines[0].note.startswith("1 answer, 1 answer from the store")


def test_without_a_key_a_step_stops_with_2_and_says_where_keys_come_from(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    result = run(pipeline(folder, STEP.format(url="https://api.example.com/v1", more="")))
    assert result.exit_code == 2
    assert "Set OPENAI_API_KEY" in capsys.readouterr().err


def test_the_key_of_the_environment_is_in_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FaultServer() as server:
        assert run(pipeline(folder, STEP.format(url=server.url, more=""))).exit_code == 0
    found = [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert found == []


def test_people_are_told_that_answers_were_recorded(folder: Path, capsys: pytest.CaptureFixture[str]):
    with FaultServer() as server:
        step = STEP.format(url=server.url, more="")
        run(pipeline(folder, step))
        with AnswerStore(folder / "more.jsonl.store.sqlite") as store:
            kept = store.get_many(Keys(folder).all)
        (folder / "more.jsonl.store.sqlite").unlink()
        with AnswerStore(folder / "more.jsonl.store.sqlite", note="Written by hand.") as store:
            for stored in kept.values():
                store.put(stored, lambda error: None)
        capsys.readouterr()
        run(pipeline(folder, "name: more\n    " + step), from_step="more")
        assert "more: 2 answers came from the store. Written by hand." in capsys.readouterr().err
        result = run(pipeline(folder, "name: more\n    " + step + "\n    show: the report"), from_step="more")
        assert result.shown["the report"].endswith("2 answers came from the store. Written by hand.")
        assert len(server.stats.requests) == 2


class Keys:
    """The requests that made the rows of ``more.jsonl``, by their ``_origin``."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "more.jsonl").read_text("utf-8").splitlines()
        self.all = list(dict.fromkeys(json.loads(line)["_origin"]["request"] for line in lines))


# ----------------------------------------------------------------------------------------------------- the file's faults


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("out: a.jsonl, recipe: expand", "augment needs model"),
        ("src: rows.jsonl, out: a.jsonl, recipe: expant, model: m", 'there is no recipe "expant". Did you mean "expand"'),
        ("src: rows.jsonl, out: a.jsonl, recipe: my.md, model: m", "there is no my.md, and no earlier step makes it"),
        ("src: row.jsonl, out: a.jsonl, recipe: expand, model: m", "there is no row.jsonl"),
        ("src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, provider: opena", 'unknown provider "opena"'),
        ("src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, base_url: 'here'", '"here" is no address of a server'),
        ("src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, to: csv", 'rows cannot be made as "csv"'),
        ("src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, temperature: 3", "a number from 0 to 2 belongs here, not 3"),
        ("src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, rpm: 0", "a number above 0 belongs here, not 0"),
        ("src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, workers: 5000", "a whole number from 1 to 4096"),
        ("src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, near: 1.5", "1.5 is no similarity"),
        ("src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, structured: json", '"json" is not known'),
        ("src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, sample: 5", 'augment has no option "sample"'),
        ("src: rows.jsonl, out: '-', recipe: expand, model: m", "steps read and write files"),
        ("src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, set: {on: yes}", "put it in quotes"),
    ],
)  # fmt: skip
def test_a_fault_of_the_options_is_told_before_anything_is_asked(folder: Path, options: str, told: str):
    assert told in faults(folder, options)
    assert not (folder / ".datakit").exists()


@pytest.mark.parametrize(
    "name", ["api_key", "api-key", "OPENAI_API_KEY", "key", "keys", "token", "headers", "password"]
)
def test_a_key_in_the_file_is_refused_by_name_and_not_repeated(folder: Path, name: str):
    told = faults(folder, f"src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, {name}: {KEY}")
    assert f'"{name}": keys do not belong in a file that is shared' in told
    assert "OPENAI_API_KEY" in told
    assert KEY not in told


def test_a_key_in_an_address_is_refused_and_not_repeated(folder: Path):
    told = faults(
        folder, f"src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, base_url: 'https://u:{KEY}@h.example/v1'"
    )
    assert "neither a key nor a query" in told
    assert KEY not in told


def test_only_augment_and_trainkit_steps_can_be_shown(folder: Path):
    with pytest.raises(Faults, match='unknown key "show"'):
        run(pipeline(folder, "validate: {src: rows.jsonl}\n    show: x"))
    with pytest.raises(Faults, match='"show" must be a title'):
        run(pipeline(folder, STEP.format(url="http://127.0.0.1:1/v1", more="") + "\n    show: [x]"))


# -------------------------------------------------------------------------------------------------------------- options


def test_a_step_takes_every_option_of_the_command_but_those_that_only_look():
    of_command = {name.rstrip("_") for name in inspect.signature(augment).parameters}
    assert set(OPTIONS["augment"]) == of_command - {"dry_run", "sample", "json", "quiet"}


def test_options_mean_what_they_mean_on_the_command_line():
    told = {
        "src": ["a.jsonl"], "out": "b.jsonl", "recipe": "expand", "model": "m", "base_url": ["http://h/v1"], "n": 3,
        "set": {"tone": "dry"}, "from": "alpaca", "to": "openai", "map": {"instruction": "q"}, "timeout": 9,
        "budget_requests": 5, "budget_minutes": 0.5, "store": "s.sqlite", "near": "off", "no_origin": True,
        "against": ["c.jsonl"], "allow": ["length"], "html": "r.html", "rejects": "no.jsonl", "prices": "p.yaml",
    }  # fmt: skip
    found = augment_options(told)
    assert isinstance(found, AugmentOptions)
    assert (found.values, found.from_format, found.to_format, found.mapping) == (
        {"tone": "dry"}, "alpaca", "openai", {"instruction": "q"},
    )  # fmt: skip
    assert (found.base_urls, found.timeout_s, found.near, found.origin) == (("http://h/v1",), 9, None, False)
    assert (found.limits.requests, found.limits.tokens, found.limits.minutes) == (5, None, 0.5)
    assert (found.store, found.prices, found.tokenizer) == (Path("s.sqlite"), Path("p.yaml"), None)
    assert (found.against, found.allow, found.n) == (("c.jsonl",), ("length",), 3)
    assert augment_options({"out": "b", "recipe": "expand", "model": "m"}) == AugmentOptions("expand", "m")


@pytest.mark.parametrize(("spelled", "meant"), [("near: off", None), ("near: 'off'", None), ("near: 0.5", 0.5)])
def test_off_is_off_with_or_without_quotation_marks(folder: Path, monkeypatch, spelled: str, meant: float | None):
    from datakit.pipeline.spec import read_pipeline

    monkeypatch.chdir(folder)
    path = pipeline(folder, f"augment: {{src: rows.jsonl, out: a.jsonl, recipe: expand, model: m, {spelled}}}")
    (step,) = read_pipeline(path).steps
    assert augment_options(step.options).near == meant
    assert json.dumps(fingerprint_of(step, State(folder / "s").hashes).told)  # can be kept
