"""The quickstart's recorded answers: they serve the pipeline as it is shipped, without a key, and were made of its data."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from datakit.augment.store.layout import SELECT, reading
from datakit.augment.store.rows import from_row
from datakit.pipeline import run_pipeline
from datakit.pipeline.board import Line
from registry.errors import Faults, UsageError
from tests.conftest import REPOSITORY
from tests.datakit.faults.server import FaultServer

QUICKSTART = REPOSITORY / "examples" / "quickstart"
ANEW = "An answer is missing in answers.store.sqlite. Bring answers.jsonl up to date, then: python examples/quickstart/record.py"
MADE = ("work", "models", "saves", ".*", "__pycache__")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The quickstart as it is shipped; no key is in the environment."""
    for name in ("OPENAI_API_KEY", "OPENAI_API_KEYS"):
        monkeypatch.delenv(name, raising=False)
    return Path(shutil.copytree(QUICKSTART, tmp_path / "quickstart", ignore=shutil.ignore_patterns(*MADE)))


@pytest.fixture
def record() -> ModuleType:
    """The script that makes the store."""
    spec = importlib.util.spec_from_file_location("quickstart_record", QUICKSTART / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def up_to_the_answers(folder: Path, **variables: str) -> Path:
    """The pipeline without what comes behind its last augment step: no training."""
    road = yaml.safe_load((folder / "pipeline.yaml").read_text("utf-8"))
    last = max(number for number, step in enumerate(road["steps"]) if "augment" in step)
    road["steps"], road["look_at"] = road["steps"][: last + 1], {}
    road["vars"] |= variables
    (folder / "cut.yaml").write_text(yaml.safe_dump(road, allow_unicode=True, sort_keys=False), "utf-8")
    return folder / "cut.yaml"


def run(folder: Path, **variables: str) -> dict[str, Line]:
    result = run_pipeline(up_to_the_answers(folder, **variables), from_step=None, dry_run=False, show=False, quiet=True)
    assert result.exit_code == 0, ANEW
    return {line.name: line for line in result.lines if line.verb == "augment"}


def details_of(made: Path) -> dict[str, Any]:
    return json.loads(Path(f"{made}.manifest.json").read_text("utf-8"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def contents(store: Path) -> list[tuple[Any, ...]]:
    """What is kept, without when it was."""
    with reading(store) as connection:
        found = [from_row(row) for row in connection.execute(f"{SELECT} ORDER BY key")]
    return [(one.key, one.request, one.body, one.model, one.prompt_tokens) for one in found if one is not None]


def test_every_request_of_the_pipeline_is_answered_in_the_store_and_the_store_stays_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.example/v1")  # of the user's, and not for the demo
    before = (folder / "answers.store.sqlite").read_bytes()
    lines = run(folder)
    assert {name: (line.result.rows_in, line.result.rows_out, line.note) for name, line in lines.items()} == {
        "paraphrase": (24, 68, "25 answers from the store, 4 rows dropped"),
        "ask the handbook": (16, 47, "16 answers from the store, 1 row dropped"),
        "paraphrase identity": (40, 40, "40 answers from the store"),
    }
    assert (folder / "answers.store.sqlite").read_bytes() == before
    assert sorted(path.name for path in folder.glob("answers*")) == ["answers.jsonl", "answers.store.sqlite"]


def test_the_same_pipeline_asks_a_model_where_one_is_named(folder: Path):
    shipped = (folder / "answers.store.sqlite").read_bytes()
    with FaultServer() as server:
        lines = run(folder, model="m1", server=server.url, answers="my.store.sqlite")
        assert len(server.stats.requests) >= 24 + 16 + 40
    assert all("from the store" not in line.note and line.result.rows_out for line in lines.values())
    assert "recorded" not in lines["paraphrase"].result.stdout.lower()
    assert (folder / "answers.store.sqlite").read_bytes() == shipped


def test_the_filters_have_something_to_find_and_the_report_says_that_answers_were_recorded(folder: Path):
    lines = run(folder)
    drops = rows_of(folder / "work" / "paraphrased.jsonl.drops.jsonl") + rows_of(
        folder / "work" / "asked.jsonl.drops.jsonl"
    )
    assert [drop["reason"] for drop in drops] == ["language", "near-duplicate", "near-duplicate", "echo", "refusal"]
    report = lines["paraphrase"].result.stdout
    assert "68 rows kept, 4 dropped" in report
    assert report.endswith("written for this demo and shipped with it; no model was asked while it ran.")
    assert {row["_origin"]["model"] for row in rows_of(folder / "work" / "asked.jsonl")} == {"recorded"}


def test_no_made_row_has_a_name_in_it_that_the_pipeline_fills_in_later(folder: Path):
    run(folder)
    rows = rows_of(folder / "work" / "identity.more.jsonl")
    assert all("{{name}}" in row["output"] and "Pip" not in str(row) for row in rows)


def test_the_store_holds_the_written_answers(folder: Path, record: ModuleType):
    shipped = contents(folder / "answers.store.sqlite")
    assert len(shipped) == 81
    assert contents(record.record(folder)) == shipped, ANEW


def test_an_answer_that_is_missing_or_that_nobody_asks_for_is_told(folder: Path, record: ModuleType):
    written = (folder / "answers.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "answers.jsonl").write_text("".join(written[1:]), "utf-8")
    with pytest.raises(UsageError, match="no answer is written to the recipe paraphrase for: One cable was missing"):
        record.record(folder)
    more = '{"recipe": "expand", "of": "What?", "answers": [{"dialogues": []}]}\n'
    (folder / "answers.jsonl").write_text("".join(written) + more, "utf-8")
    with pytest.raises(Faults, match=r"expand, What\?: no call asks for it"):
        record.record(folder)
