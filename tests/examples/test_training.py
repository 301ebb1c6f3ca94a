"""The YAMLs of examples/train: each resolves, its rows encode without a loss, and the page beside them names them all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from trainkit.backends.rules import backend_faults
from trainkit.config import RunConfig, load_config
from trainkit.encode import encode_to_file
from trainkit.init import init_model
from trainkit.init_plan import plan_model
from trainkit.preflight import check_places

FOLDER = REPOSITORY / "examples" / "train"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
STAGES = {"pt", "sft", "rm", "dpo", "kto"}
METHODS = {"full", "freeze", "lora", "oft"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that examples/train/README.md makes, a little smaller."""
    folder = tmp_path_factory.mktemp("examples") / "tiny"
    sizes = dict.fromkeys(("vocab_size", "layers", "heads", "max_length"))
    plan = plan_model("qwen2", "tiny", **(sizes | {"hidden_size": 32}), template="qwen3_nothink")
    init_model(folder, [str(REPOSITORY / "examples" / "data" / "answers.jsonl")], plan, seed=1, force=False)
    return folder


@pytest.fixture
def resolved(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Reads a YAML as its user does, from the root of the repository; what it would write goes elsewhere."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path / "cache"))

    def load(name: str) -> RunConfig:
        words = [f"model_name_or_path={model}", f"output_dir={tmp_path / 'out'}"]
        return load_config(os.path.relpath(FOLDER / f"{name}.yaml"), words)

    return load


@pytest.mark.parametrize("name", NAMES)
def test_an_example_resolves_and_all_of_its_rows_become_examples(name: str, resolved, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    config = resolved(name)
    check_places(config)
    assert backend_faults(config, 2) == []
    made = encode_to_file(config, tmp_path / "rows.jsonl", prompts=False)
    assert made["rows_in"] == made["rows_out"] > 0
    assert made["examples"] > 0


def test_the_examples_write_into_folders_of_their_own() -> None:
    folders = [load_config(FOLDER / f"{name}.yaml").output_dir for name in NAMES]
    assert folders == [f"saves/examples/{name}" for name in NAMES]


def test_each_stage_and_each_method_has_an_example() -> None:
    configs = [load_config(FOLDER / f"{name}.yaml") for name in NAMES]
    assert {config.stage for config in configs} == STAGES
    assert {config.method.finetuning_type for config in configs} == METHODS


def test_the_page_beside_the_examples_names_them_all() -> None:
    page = (FOLDER / "README.md").read_text("utf-8")
    assert [name for name in NAMES if f"]({name}.yaml)" not in page] == []
