"""Six steps of ``trainkit run`` and of TRL, from the same weights and on the same rows, are the same six steps.

Both are given the same token ids; how text becomes ids is proven elsewhere. fp32, no dropout, AdamW, a constant rate.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainkit.conftest import NAMES, PAIRS, QUESTIONS, read_log
from tests.trainkit.proof import trl_runs
from tests.trainkit.proof.trl_runs import STEPS, Course
from trainkit.config import load_config
from trainkit.layout import VALUE_HEAD
from trainkit.run import run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("trl") is None, reason="TRL, whose losses are the oracle, is not installed"
)

CLOSE = 1e-5  # of a loss; the rounding of six updates of Adam shows in a gradient norm first, so there ten times that
ONE_PAIR = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
Settings = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with ``judged`` (24 answers, each good or bad) and ``short`` (12 pairs, prompts of one letter)."""
    folder = tmp_path_factory.mktemp("proof")
    judged = [{**row, "good": number % 3 != 1} for number, row in enumerate(QUESTIONS)]
    short = [{**row, "instruction": name[0]} for name, row in zip(NAMES, PAIRS, strict=True)]
    for name, lines in (("judged", judged), ("short", short)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    asked = {"prompt": "instruction", "query": "input"}
    info = {
        "judged": {"file_name": "judged.jsonl", "columns": {**asked, "response": "output", "kto_tag": "good"}},
        "short": {
            "file_name": "short.jsonl", "ranking": True,
            "columns": {**asked, "chosen": "chosen", "rejected": "rejected"},
        },
    }  # fmt: skip
    (folder / "dataset_info.json").write_text(json.dumps(info), "utf-8")
    return folder


def fresh(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def trained(settings: Settings, **changes: Any) -> tuple[Course, list[Any]]:
    """Our six steps, and the examples that were trained in their order."""
    same = {"max_steps": STEPS, "lr_scheduler_type": "constant", "disable_shuffling": True, "cutoff_len": 128}
    result = run(load_config(settings(**{**same, **changes})), quiet=True)
    lines = [line for line in read_log(result.folder) if "loss" in line]
    return [(line["loss"], line["grad_norm"]) for line in lines], list(result.examples.train)


def assert_same_course(ours: Course, theirs: Course) -> None:
    assert len(ours) == len(theirs) == STEPS
    assert [loss for loss, _ in ours] == pytest.approx([loss for loss, _ in theirs], rel=CLOSE)
    assert [norm for _, norm in ours] == pytest.approx([norm for _, norm in theirs], rel=10 * CLOSE)
    assert len({round(loss, 4) for loss, _ in ours}) > STEPS // 2  # a course, not a standstill


def test_sft_on_answers_alone(settings: Settings, model_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    """Two micro-batches of two a step: both divide by the trained tokens of the whole step."""
    sizes = {"gradient_accumulation_steps": 2}
    ours, examples = trained(settings, **sizes)
    assert_same_course(ours, trl_runs.sft(fresh(model_folder), examples, tokenizer, tmp_path / "trl", **sizes))


def test_sft_packed(settings: Settings, model_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    """Each side packs by itself, so that only a whole epoch has the same rows on both: a step is an epoch."""
    ours, examples = trained(settings, packing=True, per_device_train_batch_size=32)
    theirs = trl_runs.sft(
        fresh(model_folder), examples, tokenizer, tmp_path / "trl", packing=True, packing_strategy="bfd",
        max_length=128, per_device_train_batch_size=32,
    )  # fmt: skip
    assert_same_course(ours, theirs)


def test_sft_weighed_by_probability(settings: Settings, model_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    ours, examples = trained(settings, use_dft_loss=True)
    assert_same_course(ours, trl_runs.sft(fresh(model_folder), examples, tokenizer, tmp_path / "trl", loss_type="dft"))


@pytest.mark.parametrize("pref_loss", ["sigmoid", "hinge", "ipo"])
def test_dpo(pref_loss: str, settings: Settings, model_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    """ipo: TRL divides by the length of the answer before the shift, we by that of what is predicted: the same number
    wherever a prompt stands before the answer. For kto_pair TRL has no counterpart."""
    ours, examples = trained(settings, stage="dpo", dataset="pairs", pref_loss=pref_loss)
    theirs = trl_runs.dpo(fresh(model_folder), examples, tokenizer, tmp_path / "trl", loss_type=pref_loss, beta=0.1)
    assert_same_course(ours, theirs)


def test_dpo_with_a_part_of_sft(settings: Settings, model_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    """Our NLL is a mean over the tokens of each answer, TRL's over those of the micro-batch: so one pair in each."""
    ours, examples = trained(settings, stage="dpo", dataset="pairs", pref_ftx=0.25, **ONE_PAIR)
    theirs = trl_runs.dpo(
        fresh(model_folder), examples, tokenizer, tmp_path / "trl", loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, 0.25], beta=0.1, **ONE_PAIR,
    )  # fmt: skip
    assert_same_course(ours, theirs)


def test_kto(settings: Settings, rows: Path, model_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    """TRL turns the answers of a micro-batch round to get its KL rows, we those of the whole data: TRL is given ours."""
    weights = {"kto_chosen_weight": 1.0, "kto_rejected_weight": 1.5}
    ours, examples = trained(
        settings, stage="kto", dataset="judged", dataset_dir=str(rows), per_device_train_batch_size=4, **weights
    )
    theirs = trl_runs.kto(
        fresh(model_folder), examples, tokenizer, tmp_path / "trl", beta=0.1, desirable_weight=1.0,
        undesirable_weight=1.5, per_device_train_batch_size=4,
    )  # fmt: skip
    assert_same_course(ours, theirs)


def test_reward_model(settings: Settings, model_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    """TRL scores with a classification head of one label, we with a value head of the same weights; that ours has a
    bias too takes nothing from a difference of scores."""
    from safetensors.torch import save_file
    from transformers import AutoModelForSequenceClassification

    theirs_model = AutoModelForSequenceClassification.from_pretrained(
        model_folder, num_labels=1, dtype=torch.float32, pad_token_id=tokenizer.pad_token_id
    )
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    head = {"v_head.summary.weight": theirs_model.score.weight.detach().clone(), "v_head.summary.bias": torch.ones(1)}
    save_file(head, folder / VALUE_HEAD)
    ours, examples = trained(settings, stage="rm", dataset="pairs", model_name_or_path=str(folder))
    assert_same_course(ours, trl_runs.reward(theirs_model, examples, tokenizer, tmp_path / "trl"))


def test_orpo(settings: Settings, rows: Path, model_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    """TRL takes the NLL of prompt and answer, over the tokens of the micro-batch; we that of the answer, as the paper's
    eq. 6 has it. They agree where the prompt is one token, which nothing predicts, and a micro-batch one pair."""
    keys = {"stage": "dpo", "dataset": "short", "dataset_dir": str(rows), "template": "empty", "pref_loss": "orpo"}
    ours, examples = trained(settings, **keys, pref_beta=0.3, **ONE_PAIR)
    assert {len(trl_runs.parts(e.chosen)[0]) for e in examples} == {1}
    theirs = trl_runs.orpo(fresh(model_folder), examples, tokenizer, tmp_path / "trl", beta=0.3, **ONE_PAIR)
    assert_same_course(ours, theirs)


def test_simpo(settings: Settings, model_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    ours, examples = trained(settings, stage="dpo", dataset="pairs", pref_loss="simpo", pref_beta=2.0, simpo_gamma=0.7)
    theirs = trl_runs.cpo(
        fresh(model_folder), examples, tokenizer, tmp_path / "trl", loss_type="simpo", cpo_alpha=0.0, beta=2.0,
        simpo_gamma=0.7,
    )  # fmt: skip
    assert_same_course(ours, theirs)
