"""The log-probability of each trained token: plain transformers is the oracle."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from registry.encode import IGNORE, Example
from trainkit.data.collate import Batch, collate_sequences
from trainkit.logprobs import decoder_and_head, head_is_plain, token_logprobs

X = IGNORE


@pytest.fixture(scope="module")
def model(model_folder: Path) -> nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_folder).eval()


def batch_of(*rows: tuple[list[int], list[int]]) -> Batch:
    examples = [Example(array("i", ids), array("i", labels)) for ids, labels in rows]
    return collate_sequences(examples, range(len(rows)), 0, strict=False)


BATCH = batch_of(
    ([5, 6, 7, 8, 9, 10], [X, X, 7, 8, X, 10]),
    ([30, 31, 32], [30, 31, 32]),
    ([40, 41, 42, 43, 44, 45, 46, 47, 48], [X] * 8 + [48]),
)


def gathered(model: nn.Module, batch: Batch) -> list[tuple[int, float]]:
    """(row, log-probability) of every trained token that has one before it, by a plain forward and log_softmax."""
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.float()
    scores = logits.log_softmax(-1)
    return [
        (row, float(scores[row, at - 1, label]))
        for row, labels in enumerate(batch.labels.tolist())
        for at, label in enumerate(labels)
        if at and label != IGNORE
    ]


@pytest.mark.parametrize("head_only", [True, False])
def test_values_are_those_of_a_plain_forward_and_log_softmax(model: nn.Module, head_only: bool) -> None:
    found = token_logprobs(model, BATCH, head_only=head_only)
    expected = gathered(model, BATCH)
    assert found.rows.tolist() == [row for row, _ in expected]
    assert found.values.tolist() == pytest.approx([value for _, value in expected], abs=1e-5)
    assert found.values.dtype == torch.float32


def test_the_first_token_is_never_predicted(model: nn.Module) -> None:
    assert len(token_logprobs(model, batch_of(([1, 2], [1, 2])), head_only=True).values) == 1


def test_a_sum_by_row_counts_each_sequence_apart(model: nn.Module) -> None:
    found = token_logprobs(model, BATCH, head_only=True)
    expected = [sum(value for row, value in gathered(model, BATCH) if row == number) for number in range(3)]
    assert found.by_row().tolist() == pytest.approx(expected, abs=1e-4)


def test_a_row_without_a_trained_token_sums_to_zero(model: nn.Module) -> None:
    found = token_logprobs(model, batch_of(([1, 2], [X, X]), ([1, 2], [X, 2])), head_only=True)
    assert found.by_row()[0] == 0
    assert found.by_row()[1] < 0


ROWS = st.lists(
    st.lists(st.integers(3, 300), min_size=2, max_size=14).flatmap(
        lambda ids: st.tuples(st.just(ids), st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    ),
    min_size=1,
    max_size=4,
)


@given(ROWS)
def test_padding_changes_no_log_probability(model: nn.Module, rows: list[tuple[list[int], list[bool]]]) -> None:
    labelled = [(ids, [i if trained else X for i, trained in zip(ids, marks, strict=True)]) for ids, marks in rows]
    together = token_logprobs(model, batch_of(*labelled), head_only=True).by_row()
    for number, row in enumerate(labelled):
        alone = batch_of(row)
        unpadded = replace(
            alone,
            **{name: getattr(alone, name)[:, : len(row[0])] for name in ("input_ids", "attention_mask", "labels")},
        )
        assert float(token_logprobs(model, unpadded, head_only=True).by_row()[0]) == pytest.approx(
            float(together[number]), abs=2e-4
        )


def test_gradients_are_the_same_with_the_head_on_trained_places_only(model: nn.Module) -> None:
    found = []
    for head_only in (True, False):
        model.zero_grad()
        token_logprobs(model, BATCH, head_only=head_only).values.sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    model.zero_grad(set_to_none=True)
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-4, atol=1e-5)


SIZES: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def gemma2() -> nn.Module:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    model = Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0))
    with torch.no_grad():  # logits that the cap at 2 bends
        model.get_output_embeddings().weight.mul_(50)
    return model


def qwen2() -> nn.Module:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**SIZES))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    )


@pytest.mark.parametrize(("build", "plain"), [(qwen2, True), (gpt2, True), (gemma2, False)])
def test_a_model_that_bends_its_logits_is_told_from_one_that_does_not(
    build: Callable[[], nn.Module], plain: bool
) -> None:
    torch.manual_seed(0)
    model = build().train()
    assert head_is_plain(model) is plain
    assert model.training  # looked at, and left as it was


def test_a_model_that_bends_its_logits_gets_its_own_log_probabilities() -> None:
    torch.manual_seed(0)
    model = gemma2().eval()
    batch = batch_of(([5, 6, 7, 8], [X, 6, 7, 8]))
    found = token_logprobs(model, batch, head_only=head_is_plain(model))
    assert found.values.tolist() == pytest.approx([value for _, value in gathered(model, batch)], abs=1e-5)


def test_a_model_without_parts_to_be_found_is_run_whole() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(32, 32)

    assert head_is_plain(Odd()) is False


def test_the_head_of_an_adapted_model_is_that_of_its_base() -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapted = get_peft_model(
        qwen2(), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    adapted.eval()
    assert decoder_and_head(adapted)[1] is adapted.get_base_model().get_output_embeddings()
    batch = batch_of(([5, 6, 7, 8], [X, 6, 7, 8]))
    found = token_logprobs(adapted, batch, head_only=head_is_plain(adapted))
    assert head_is_plain(adapted)
    assert found.values.tolist() == pytest.approx([value for _, value in gathered(adapted, batch)], abs=1e-5)
