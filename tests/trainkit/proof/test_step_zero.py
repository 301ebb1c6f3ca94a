"""Before the first update the policy is its reference, so that the loss of ``trainkit run`` is known beforehand."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.encode import Example
from tests.trainkit.conftest import QUESTIONS
from trainkit.config import load_config
from trainkit.layout import VALUE_HEAD
from trainkit.run import run

CLOSE = 1e-5
Settings = Callable[..., dict[str, Any]]
LOG_2 = math.log(2)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data folder whose ``judged`` holds 24 answers, each good or bad."""
    folder = tmp_path_factory.mktemp("judged")
    rows = [{**row, "good": number % 3 != 1} for number, row in enumerate(QUESTIONS)]
    (folder / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    columns = {"prompt": "instruction", "query": "input", "response": "output", "kto_tag": "good"}
    (folder / "dataset_info.json").write_text(
        json.dumps({"judged": {"file_name": "judged.jsonl", "columns": columns}}), "utf-8"
    )
    return str(folder)


@pytest.fixture
def first_step(settings: Settings) -> Callable[..., tuple[float, list[Any]]]:
    """``first_step(stage="dpo", …)``: the loss of one step on four examples, and these examples."""

    def step(**changes: Any) -> tuple[float, list[Any]]:
        same = {"max_steps": 1, "max_samples": 4, "per_device_train_batch_size": 4, "cutoff_len": 128}
        result = run(load_config(settings(**{**same, **changes})), quiet=True)
        assert result.first_loss is not None
        return result.first_loss, list(result.examples.train)

    return step


# train_peers 4.1, oracle 2, from the papers' formulas.
@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"pref_loss": "sigmoid"}, LOG_2),
        ({"pref_loss": "sigmoid", "dpo_label_smoothing": 0.3}, LOG_2),
        ({"pref_loss": "sigmoid", "pref_bco_weight": 1.0}, (LOG_2 + 2 * LOG_2) / 2),
        ({"pref_loss": "hinge"}, 1.0),
        ({"pref_loss": "ipo"}, 25.0),
        ({"pref_loss": "ipo", "pref_beta": 0.5}, 1.0),
        ({"pref_loss": "kto_pair"}, 0.5),
        ({"pref_loss": "sigmoid", "finetuning_type": "lora"}, LOG_2),
    ],
)
def test_a_preference_loss_begins_where_its_formula_says(
    changes: dict[str, Any], value: float, first_step: Callable[..., Any]
) -> None:
    loss, _ = first_step(stage="dpo", dataset="pairs", **changes)
    assert loss == pytest.approx(value, rel=CLOSE)


def test_kto_begins_at_one_half(judged: str, first_step: Callable[..., Any]) -> None:
    loss, _ = first_step(stage="kto", dataset="judged", dataset_dir=judged)
    assert loss == pytest.approx(0.5, rel=CLOSE)


def test_a_reward_model_whose_value_head_is_zero_begins_at_log_2(
    first_step: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    zeros = {"v_head.summary.weight": torch.zeros(1, 32), "v_head.summary.bias": torch.zeros(1)}
    save_file(zeros, folder / VALUE_HEAD)
    loss, _ = first_step(stage="rm", dataset="pairs", model_name_or_path=str(folder))
    assert loss == pytest.approx(LOG_2, rel=CLOSE)


def test_the_part_of_sft_is_the_mean_nll_of_chosen_answers(first_step: Callable[..., Any], model_folder: Path) -> None:
    loss, pairs = first_step(stage="dpo", dataset="pairs", pref_ftx=1.0)
    alone = nll(model_folder, [pair.chosen for pair in pairs])
    assert loss - LOG_2 == pytest.approx(sum(alone) / len(alone), rel=CLOSE)


@pytest.mark.parametrize(
    ("stage", "dataset", "packing"), [("sft", "questions", False), ("sft", "questions", True), ("pt", "pages", False)]
)
def test_text_begins_at_the_nll_that_plain_transformers_gives(
    stage: str, dataset: str, packing: bool, first_step: Callable[..., Any], model_folder: Path
) -> None:
    loss, examples = first_step(stage=stage, dataset=dataset, packing=packing)
    alone = nll(model_folder, examples)
    counts = [sum(label != -100 for label in list(e.labels)[1:]) for e in examples]
    expected = sum(mean * count for mean, count in zip(alone, counts, strict=True)) / sum(counts)
    assert loss == pytest.approx(expected, rel=CLOSE)


def test_losses_without_a_reference_begin_at_their_formula_of_plain_transformers_numbers(
    first_step: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    """Oracle 11: simpo -log s(beta * d - gamma), orpo NLL - beta * log s(log odds), of mean log-probabilities."""
    simpo, pairs = first_step(stage="dpo", dataset="pairs", pref_loss="simpo", pref_beta=2.0, simpo_gamma=0.7)
    chosen, rejected = (
        [-v for v in nll(model_folder, side)] for side in zip(*((p.chosen, p.rejected) for p in pairs), strict=True)
    )
    rows = list(zip(chosen, rejected, strict=True))
    assert simpo == pytest.approx(sum(softplus(0.7 - 2.0 * (c - r)) for c, r in rows) / len(rows), rel=CLOSE)
    orpo, _ = first_step(
        stage="dpo", dataset="pairs", pref_loss="orpo", pref_beta=0.3, output_dir=str(tmp_path / "orpo")
    )
    odds = [log_odds(c) - log_odds(r) for c, r in rows]
    expected = sum(-c + 0.3 * softplus(-o) for (c, _), o in zip(rows, odds, strict=True)) / len(rows)
    assert orpo == pytest.approx(expected, rel=CLOSE)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def log_odds(logprob: float) -> float:
    return logprob - math.log(-math.expm1(logprob))


def nll(folder: Path, examples: Sequence[Example]) -> list[float]:
    """The mean negative log-likelihood of each example's labels, one after the other, as transformers computes it."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return [
            float(model(input_ids=torch.tensor([list(e.ids)]), labels=torch.tensor([list(e.labels)])).loss)
            for e in examples
        ]
