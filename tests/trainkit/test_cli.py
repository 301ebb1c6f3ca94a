"""The trainkit command at its rim: exit codes, one JSON object, no traceback, nothing heavy before it is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# Runs trainkit as its console script does, then tells which heavy packages were imported on the way.
PROBE = """
import sys
sys.argv = ["trainkit", *sys.argv[1:]]
from trainkit.cli import main
try:
    main()
finally:
    print("HEAVY", *(n for n in ("torch", "transformers", "peft", "numpy", "tokenizers", "matplotlib") if n in sys.modules))
"""


def probe(*arguments: object) -> tuple[int, str, str]:
    """Exit code, what is heavy and was imported, and stderr, of a fresh interpreter."""
    command = [sys.executable, "-c", PROBE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.rpartition("HEAVY")[2].strip(), done.stderr


def test_help_imports_nothing_heavy() -> None:
    assert probe("--help")[:2] == (0, "")


def test_all_faults_of_a_config_are_told_before_torch_is_imported(config_file: Callable[..., Path]) -> None:
    code, heavy, err = probe("run", config_file(lerning_rate=1, cutoff_len=0, stage="sfft"), "fp16=true")
    assert (code, heavy) == (2, "")
    for word in ("4 faults", '"learning_rate"', "cutoff_len", '"sft"', "float16 training is not built"):
        assert word in err


def test_all_faults_of_the_places_are_told_before_torch_is_imported(config_file: Callable[..., Path]) -> None:
    code, heavy, err = probe("run", config_file(dataset="pairs,nowhere", template="qwen9", model_name_or_path="./none"))
    assert (code, heavy) == (2, "")
    assert "4 faults" in err


@pytest.mark.parametrize("verb", ["run", "export", "show"])
def test_a_missing_config_ends_with_2(trainkit: Callable[..., Any], verb: str) -> None:
    ran = trainkit(verb, "nowhere.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "error: nowhere.yaml: no such config file\n"


def test_an_unknown_verb_ends_with_2(trainkit: Callable[..., Any]) -> None:
    assert trainkit("tran").code == 2


def test_a_run_without_do_train_says_what_to_set(
    trainkit: Callable[..., Any], config_file: Callable[..., Path]
) -> None:
    ran = trainkit("run", config_file(), "do_train=false")
    assert ran.code == 2
    assert "there is nothing to do\n  Set do_train: true." in ran.err


def test_a_run_without_output_dir_says_so(trainkit: Callable[..., Any], config_file: Callable[..., Path]) -> None:
    ran = trainkit("run", config_file(), "output_dir=null")
    assert ran.code == 2
    assert '"output_dir" is missing' in ran.err


def test_a_missing_training_package_gives_the_install_line(
    trainkit: Callable[..., Any], config_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest))
    ran = trainkit("run", config_file())
    assert ran.code == 2
    assert "training needs packages that are not installed: peft" in ran.err
    assert 'pip install "tunekit[train]"' in ran.err


def test_json_prints_one_object_and_quiet_nothing_else(
    trainkit: Callable[..., Any], config_file: Callable[..., Path], tmp_path: Path
) -> None:
    ran = trainkit("run", config_file(max_steps=2, cutoff_len=96), "--json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    found = ran.json
    assert found["command"] == "run"
    assert (found["rows_in"], found["rows_out"], found["rejected"], found["examples"]) == (24, 24, {}, 24)
    assert found["outputs"] == [str(tmp_path / "out")]
    assert found["first_loss"] > found["last_loss"] > 0


def test_what_the_length_budget_cuts_is_said_and_counted(
    trainkit: Callable[..., Any], config_file: Callable[..., Path]
) -> None:
    ran = trainkit("run", config_file(max_steps=1, cutoff_len=24), "--json")
    found = ran.json
    assert found["sequences_cut"] > 0
    assert found["tokens_cut"] >= found["sequences_cut"]
    said = f"cutoff_len 24 cuts {found['sequences_cut']} sequences; {found['tokens_cut']} of their tokens are left out"
    assert said in ran.err


def test_env_prints_the_versions_that_matter(trainkit: Callable[..., Any]) -> None:
    import torch
    import transformers

    found = trainkit("env", "--json").json
    assert found["torch"] == torch.__version__
    assert found["transformers"] == transformers.__version__
    assert {"tunekit", "python", "platform", "cores", "peft", "tokenizers"} <= found.keys()
    assert f"torch: {torch.__version__}" in trainkit("env").out.splitlines()
