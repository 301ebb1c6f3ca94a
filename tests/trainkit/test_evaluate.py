"""Held-out loss: a mean over everything that is held out, whatever the batches."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import pytest

from registry.encode import IGNORE, Example
from trainkit.backends.single import Single
from trainkit.data.collate import collate_sequences
from trainkit.evaluate import mean_loss
from trainkit.stages.sft import loss

EXAMPLES = [Example(array("i", [5, 6, 7, 8, 9][: 2 + n]), array("i", [IGNORE, 6, 7, 8, 9][: 2 + n])) for n in range(4)]


@pytest.mark.parametrize("size", [1, 3, 4])
def test_the_loss_is_a_mean_over_tokens_and_perplexity_its_exponential(model_folder: Path, size: int) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder).train()
    batches = [
        collate_sequences(EXAMPLES[i : i + size], range(i, min(i + size, 4)), 0, strict=False)
        for i in range(0, 4, size)
    ]
    found = mean_loss(
        model, batches, lambda _: None, loss, Single(use_cpu=True, bf16=False), head_only=True, perplexity=True
    )
    whole = collate_sequences(EXAMPLES, range(4), 0, strict=False)
    theirs = float(
        model.eval()(input_ids=whole.input_ids, attention_mask=whole.attention_mask, labels=whole.labels).loss.detach()
    )
    assert found == {
        "eval_loss": pytest.approx(theirs, abs=1e-5),
        "perplexity": pytest.approx(math.exp(theirs), rel=1e-4),
    }


def test_nothing_held_out_is_a_loss_of_zero_and_the_model_goes_on_training(model_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder).train()
    found = mean_loss(
        model, [], lambda _: None, loss, Single(use_cpu=True, bf16=False), head_only=True, perplexity=False
    )
    assert found == {"eval_loss": 0.0}
    assert model.training
