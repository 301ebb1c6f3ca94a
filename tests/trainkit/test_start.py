"""A run from Python and from flags: faults come before anything heavy, the function outlives the module of its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.errors import Faults
from tests.conftest import run_python


def test_faults_of_a_mapping_come_before_torch() -> None:
    code = (
        "import sys, trainkit\n"
        "from registry.errors import Faults\n"
        "try: trainkit.run({'model_name_or_path': './none', 'stage': 'sft', 'dataset': 'x', 'do_train': True})\n"
        "except Faults as error: print('told:', len(error.faults))\n"
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = run_python(code)
    assert done.stdout.splitlines() == ["told: 2", "[]"], done.stderr


def test_the_function_stays_one_when_the_module_of_its_name_is_loaded() -> None:
    import trainkit
    import trainkit.run as module

    assert trainkit.run is module
    with pytest.raises(Faults, match="stagg"):
        trainkit.run({"stagg": "sft"})


def test_a_mapping_and_words_on_top_of_it_train(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    import trainkit

    result = trainkit.run(settings(max_steps=5), "max_steps=1", quiet=True)
    assert result.folder == tmp_path / "out"
    assert result.first_loss
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("verb", ["train", "run"])
def test_train_and_run_are_one_command(
    trainkit: Callable[..., Any], config_file: Callable[..., Path], verb: str
) -> None:
    found = trainkit(verb, config_file(max_steps=9), "max_steps=1", "--cutoff_len", "48", "--json", "--quiet")
    assert found.code == 0
    assert found.json["command"] == "run"


def test_flags_alone_make_a_run(
    trainkit: Callable[..., Any], settings: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    flags = [word for key, value in settings(max_steps=1).items() for word in (f"--{key}", value)]
    ran = trainkit("train", *flags, "--json", "-q")
    assert ran.code == 0, ran.err
    assert ran.json["outputs"] == [str(tmp_path / "out")]


def test_all_faults_of_flags_come_together(trainkit: Callable[..., Any]) -> None:
    ran = trainkit("train", "--stage", "sfft", "--do-train", "--lerning-rate", "3")
    assert ran.code == 2
    assert ran.err.splitlines()[0] == "error: command line: 4 faults"
    assert "Did you mean --learning_rate?" in ran.err
