"""Stages by name, and the losses of pt and sft against plain transformers."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
import torch

from registry.encode import IGNORE, Example
from registry.stages import KINDS
from trainkit.config import load_config
from trainkit.config_rules import STAGES_BUILT
from trainkit.data.collate import collate_feedback, collate_pairs, collate_sequences
from trainkit.head import find_head
from trainkit.objective import Objective
from trainkit.stages import STAGES, Settings

X = IGNORE
CONFIG = load_config({"model_name_or_path": "m"})
TEXT = [Example(array("i", ids), array("i", ids)) for ids in ([3, 9, 27, 81, 243, 30, 90], [5, 25, 125])]
ANSWERS = [
    Example(array("i", [3, 9, 27, 81, 243]), array("i", [X, X, 27, 81, 243])),
    Example(array("i", [5, 25, 125]), array("i", [X, X, 125])),
]


def test_every_stage_that_a_config_may_name_is_there() -> None:
    assert set(STAGES) == set(STAGES_BUILT) <= set(KINDS)
    assert [name for name, stage in STAGES.items() if stage.needs_reference(CONFIG.preference)] == ["dpo", "kto"]
    assert [name for name, stage in STAGES.items() if stage.has_value_head] == ["rm"]
    collates = {name: stage.collate for name, stage in STAGES.items()}
    assert collates == {
        "pt": collate_sequences, "sft": collate_sequences, "rm": collate_pairs, "dpo": collate_pairs, "kto": collate_feedback,
    }  # fmt: skip


@pytest.mark.parametrize(("stage", "examples"), [("pt", TEXT), ("sft", ANSWERS)])
def test_the_loss_is_that_of_plain_transformers_on_the_same_ids(
    model_folder: Path, stage: str, examples: list[Example]
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    batch = STAGES[stage].collate(examples, range(2), 0, strict=False)
    settings = Settings(CONFIG.preference, CONFIG.loss, torch.device("cpu"), lambda value: value, {})
    loss_sum, metrics = Objective(model, STAGES[stage].way(settings), find_head(model))(batch)
    theirs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
    assert float(loss_sum.detach()) / batch.weight == pytest.approx(float(theirs.detach()), abs=1e-5)
    assert metrics == {}


def test_under_strict_text_is_divided_by_all_its_tokens() -> None:
    weights = [collate_sequences(TEXT, range(2), 0, strict=strict).weight for strict in (False, True)]
    assert weights == [8, 10]
