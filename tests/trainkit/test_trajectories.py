"""Six steps of LLaMA-Factory 0.9.5 in fp32 on CPU, reproduced from their own settings.

The numbers, their settings and the generator of the model come from the shared reference folder, goldens/trajectories.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainkit.config import load_config
from trainkit.run import run

SHARED = Path(__file__).resolve().parents[3] / "shared"
GOLDENS = SHARED / "goldens" / "trajectories"

pytestmark = pytest.mark.skipif(
    not GOLDENS.is_dir(), reason="needs the shared reference folder, which users do not have"
)


@pytest.fixture(scope="module")
def golden_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two-layer Qwen2 with the 151,936-token vocabulary on which the numbers were taken."""
    tokenizer, folder = tmp_path_factory.mktemp("golden") / "tokenizer", tmp_path_factory.mktemp("golden") / "model"
    tokenizer.mkdir()
    for path in (SHARED / "tokenizers" / "qwen2").iterdir():
        shutil.copyfile(path, tokenizer / path.name)
    subprocess.run([sys.executable, str(GOLDENS / "make_model.py"), str(tokenizer), str(folder)], check=True)
    return folder


def trained(name: str, model: Path, folder: Path, **changes: Any) -> list[dict[str, Any]]:
    """The log of a run with the golden's own settings."""
    golden = json.loads((GOLDENS / f"{name}.json").read_text("utf-8"))
    places = {
        "model_name_or_path": str(model),
        "dataset_dir": str(SHARED / "data"),
        "output_dir": str(folder),
        "use_cpu": True,
    }
    run(load_config({**golden["args"], **places, **changes}), quiet=True)
    return [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", ["sft_en", "pt_wiki", "eaft_en", "dpo_en", "simpo_en", "kto_en"])
def test_losses_and_gradient_norms_are_those_of_llama_factory(name: str, golden_model: Path, tmp_path: Path) -> None:
    theirs = json.loads((GOLDENS / f"{name}.json").read_text("utf-8"))["log"]
    ours = trained(name, golden_model, tmp_path / "out", compat="strict")
    assert [line["current_steps"] for line in ours] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=2e-4)
    assert [line["grad_norm"] for line in ours] == pytest.approx([line["grad_norm"] for line in theirs], rel=2e-3)


def test_the_default_divides_text_by_the_tokens_that_are_predicted(golden_model: Path, tmp_path: Path) -> None:
    """Two blocks of 96 hold 192 labels, of which 190 have a token before them."""
    theirs = json.loads((GOLDENS / "pt_wiki.json").read_text("utf-8"))["log"][0]["loss"]
    (ours,) = trained("pt_wiki", golden_model, tmp_path / "out", max_steps=1)
    assert ours["loss"] == pytest.approx(theirs * 192 / 190, rel=1e-5)
