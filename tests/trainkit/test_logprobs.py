"""The log-probability of each trained token: plain transformers is the oracle."""

from __future__ import annotations

from array import array
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
from trainkit.head import OutputHead, find_head
from trainkit.logprobs import AnchorModel, token_logprobs, trained_places

X = IGNORE


@pytest.fixture(scope="module")
def model(model_folder: Path) -> nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_folder).eval()


@pytest.fixture(scope="module")
def head(model: nn.Module) -> OutputHead:
    found = find_head(model)
    assert found is not None
    return found


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


@pytest.mark.parametrize("with_head", [True, False])
def test_values_are_those_of_a_plain_forward_and_log_softmax(model: nn.Module, with_head: bool) -> None:
    found = token_logprobs(model, BATCH, find_head(model) if with_head else None)
    expected = gathered(model, BATCH)
    assert found.rows.tolist() == [row for row, _ in expected]
    assert found.values.tolist() == pytest.approx([value for _, value in expected], abs=1e-5)
    assert found.values.dtype == torch.float32


def test_the_first_token_is_never_predicted(model: nn.Module) -> None:
    assert len(token_logprobs(model, batch_of(([1, 2], [1, 2])), find_head(model)).values) == 1


def test_a_sum_by_row_counts_each_sequence_apart(model: nn.Module) -> None:
    found = token_logprobs(model, BATCH, find_head(model))
    expected = [sum(value for row, value in gathered(model, BATCH) if row == number) for number in range(3)]
    assert found.by_row().tolist() == pytest.approx(expected, abs=1e-4)


def test_a_row_without_a_trained_token_sums_to_zero(model: nn.Module) -> None:
    found = token_logprobs(model, batch_of(([1, 2], [X, X]), ([1, 2], [X, 2])), find_head(model))
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
def test_padding_changes_no_log_probability(
    model: nn.Module, head: OutputHead, rows: list[tuple[list[int], list[bool]]]
) -> None:
    labelled = [(ids, [i if trained else X for i, trained in zip(ids, marks, strict=True)]) for ids, marks in rows]
    together = token_logprobs(model, batch_of(*labelled), head).by_row()
    for number, row in enumerate(labelled):
        alone = batch_of(row)
        unpadded = replace(
            alone,
            **{name: getattr(alone, name)[:, : len(row[0])] for name in ("input_ids", "attention_mask", "labels")},
        )
        assert float(token_logprobs(model, unpadded, head).by_row()[0]) == pytest.approx(
            float(together[number]), abs=2e-4
        )


def test_gradients_are_the_same_with_the_head_on_trained_places_only(model: nn.Module) -> None:
    found = []
    for head in (find_head(model), None):
        model.zero_grad()
        token_logprobs(model, BATCH, head).values.sum().backward()
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


def test_a_model_that_bends_its_logits_gets_its_own_log_probabilities() -> None:
    torch.manual_seed(0)
    model = gemma2().eval()
    batch = batch_of(([5, 6, 7, 8], [X, 6, 7, 8]))
    found = token_logprobs(model, batch, find_head(model))
    assert found.values.tolist() == pytest.approx([value for _, value in gathered(model, batch)], abs=1e-5)


def test_an_adapted_model_has_its_own_log_probabilities() -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapted = get_peft_model(
        qwen2(), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    adapted.eval()
    batch = batch_of(([5, 6, 7, 8], [X, 6, 7, 8]))
    found = token_logprobs(adapted, batch, find_head(adapted))
    assert found.values.tolist() == pytest.approx([value for _, value in gathered(adapted, batch)], abs=1e-5)


def test_a_batch_knows_its_trained_places_from_the_start() -> None:
    rows, places = trained_places(BATCH)
    assert list(zip(rows.tolist(), places.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 4), (1, 0), (1, 1), (2, 7)]
    cut = replace(BATCH, labels=torch.full_like(BATCH.labels, X))
    assert trained_places(cut)[0].tolist() == []
    object.__setattr__(cut, "trained", None)  # a batch that was made on a GPU
    assert trained_places(cut)[0].tolist() == []


def test_a_token_belongs_to_its_document_where_several_share_a_row(model: nn.Module) -> None:
    documents = torch.tensor([[2, 2, 2, 0, 0, -1, -1, -1], [1, 1, 1, 1, -1, -1, -1, -1]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 0, 0, 0], [0, 1, 2, 3, 0, 0, 0, 0]])
    ids = torch.arange(5, 21).view(2, 8)
    labels = ids.where((documents >= 0) & (positions > 0), X)
    batch = Batch(ids, None, labels, 6, 9, (0, 1, 2), positions, documents=documents, num_documents=3)
    found = token_logprobs(model, batch, find_head(model))
    assert found.rows.tolist() == [2, 2, 0, 1, 1, 1]
    assert found.lengths().tolist() == [1, 3, 2]
    alone = token_logprobs(model, batch_of(([5, 6, 7], [X, 6, 7])), find_head(model))
    assert float(found.by_row()[2]) == pytest.approx(float(alone.by_row()[0]), abs=1e-4)


def adapted_model(**changes: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=64, init_lora_weights=False, lora_dropout=0.5, **changes)
    return get_peft_model(qwen2(), config).train()


@pytest.mark.parametrize("targets", [["down_proj"], ["down_proj", "lm_head"]])
@pytest.mark.parametrize("with_head", [True, False])
def test_the_anchor_of_an_adapted_model_is_its_base(targets: list[str], with_head: bool) -> None:
    model = adapted_model(target_modules=targets)
    batch = batch_of(([5, 6, 7, 8], [X, 6, 7, 8]))
    head = find_head(model) if with_head else None
    found = token_logprobs(model.eval(), batch, head, linear=True, anchor=AnchorModel(None, 0.5))
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    own = model(**inputs).logits[0, :3].log_softmax(-1)
    with model.disable_adapter():
        base = model(**inputs).logits[0, :3].log_softmax(-1)
    expected = (base.exp() * (base - own)).sum(-1)
    assert found.kl is not None
    assert found.kl.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert float(expected.detach().max()) > 1e-4
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in n for n in names)  # the adapter is on again


def test_an_anchor_of_its_own_is_asked_without_dropout_and_gets_no_gradient() -> None:
    model, other = adapted_model(target_modules=["q_proj"]), adapted_model(target_modules=["q_proj"])
    batch = batch_of(([5, 6, 7, 8], [X, 6, 7, 8]))
    two = [
        token_logprobs(model.eval(), batch, find_head(model), linear=True, anchor=AnchorModel(other, 0.5)).kl
        for _ in range(2)
    ]
    assert two[0] is not None
    assert two[0].tolist() == two[1].tolist()  # type: ignore[union-attr]
    assert other.training
    assert all(p.grad is None for p in other.parameters())
