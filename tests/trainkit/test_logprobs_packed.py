"""Log-probabilities of packed examples: those of the same examples alone are the oracle."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from registry.encode import IGNORE, Example
from trainkit.data.collate import Batch, collate_packed, collate_sequences
from trainkit.head import OutputHead, find_head
from trainkit.logprobs import keeps_packed_apart, model_inputs, token_logprobs
from trainkit.stages.sft import loss

X = IGNORE
SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def qwen2() -> nn.Module:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**SIZES))


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SIZES))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    )


def bloom() -> nn.Module:
    from transformers import BloomConfig, BloomForCausalLM

    return BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=2))


def mamba() -> nn.Module:
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4))


def built(build: Callable[[], nn.Module], attention: str | None = None) -> nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build().eval()
    if attention:
        model.config._attn_implementation = attention
    with torch.no_grad():  # weights that make neighbours matter
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.ndim > 1 else 1)
    return model


def example(ids: list[int], labels: list[int], weights: list[float] | None = None) -> Example:
    return Example(array("i", ids), array("i", labels), weights=None if weights is None else array("f", weights))


def text(first: int, size: int) -> Example:
    """All of it trained, its first token too."""
    ids = [3 + (7 * first + 5 * at) % 60 for at in range(size)]
    return example(ids, ids)


BLOCKS = [[text(1, 5), text(2, 1), text(3, 7)], [text(4, 9), text(5, 2)]]
BLOCK_LEN = 16


def packed(blocks: list[list[Example]] = BLOCKS, **changes: Any) -> Batch:
    return collate_packed(blocks, [[0] * len(b) for b in blocks], 0, block_len=BLOCK_LEN, **changes)


def alone(model: nn.Module, examples: list[Example], head: OutputHead | None = None) -> list[float]:
    head = head or find_head(model)
    return [
        value
        for one in examples
        for value in token_logprobs(model, collate_sequences([one], [0], 0, strict=False), head).values.tolist()
    ]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("build", [qwen2, llama, gpt2])
@pytest.mark.parametrize("with_head", [True, False])
def test_packed_examples_have_the_log_probabilities_that_they_have_alone(
    build: Callable[[], nn.Module], attention: str, with_head: bool
) -> None:
    model = built(build, attention)
    found = token_logprobs(model, packed(), find_head(model) if with_head else None)
    assert found.values.tolist() == pytest.approx(alone(model, [e for b in BLOCKS for e in b]), abs=1e-5)
    assert found.rows.tolist() == [0] * (4 + 0 + 6) + [1] * (8 + 1)


EXAMPLES = st.lists(st.builds(text, st.integers(0, 50), st.integers(1, 8)), min_size=1, max_size=5).filter(
    lambda examples: sum(len(e.ids) for e in examples) <= BLOCK_LEN
)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return built(qwen2, "sdpa")


@pytest.fixture(scope="module")
def head(model: nn.Module) -> OutputHead:
    found = find_head(model)
    assert found is not None
    return found


@given(EXAMPLES)
def test_whatever_shares_a_block_changes_no_log_probability(
    model: nn.Module, head: OutputHead, examples: list[Example]
) -> None:
    found = token_logprobs(model, packed([examples]), head).values.tolist()
    assert found == pytest.approx(alone(model, examples, head), abs=1e-5)


def test_packed_and_padded_batches_have_one_gradient(model: nn.Module) -> None:
    gradients = []
    examples = [e for b in BLOCKS for e in b]
    for batch in (packed(), collate_sequences(examples, range(5), 0, strict=False)):
        model.zero_grad()
        token_logprobs(model, batch, find_head(model)).values.sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    model.zero_grad(set_to_none=True)
    assert packed().weight == collate_sequences(examples, range(5), 0, strict=False).weight
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_first_token_of_an_example_is_never_predicted_from_the_last_of_another(model: nn.Module) -> None:
    assert len(token_logprobs(model, packed([[text(1, 2), text(2, 2)]]), find_head(model)).values) == 2
    strict = packed([[text(1, 2), text(2, 2)]], strict=True)
    assert len(token_logprobs(model, strict, find_head(model)).values) == 3  # as theirs


def test_in_llamafactorys_plain_packing_examples_see_each_other(model: nn.Module) -> None:
    batch = packed([[text(1, 5), text(3, 7)]], strict=True, neat=False)
    apart = packed([[text(1, 5), text(3, 7)]], strict=True, neat=True)
    seeing, blind = (token_logprobs(model, b, find_head(model)).values for b in (batch, apart))
    assert seeing[:4].tolist() == pytest.approx(blind[:4].tolist(), abs=1e-5)
    assert (seeing[5:] - blind[5:]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("build", "apart"), [(qwen2, True), (llama, True), (gpt2, True), (bloom, False), (mamba, False)]
)
def test_a_model_that_lets_packed_examples_see_each_other_is_found_out(
    build: Callable[[], nn.Module], apart: bool
) -> None:
    torch.manual_seed(0)
    tried = build().train()
    assert keeps_packed_apart(tried) is apart
    assert tried.training  # looked at, and left as it was


def attention_by_lengths(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens_q: torch.Tensor, cu_seqlens_k: torch.Tensor, **_: Any
) -> torch.Tensor:
    """What ``flash_attn_varlen_func`` computes: q, k, v are [tokens, heads, size], attended stretch by stretch."""
    stretches = []
    for start, end in pairwise(cu_seqlens_q.tolist()):
        one = (t[start:end].transpose(0, 1) for t in (q, k, v))
        done = nn.functional.scaled_dot_product_attention(*one, is_causal=True, enable_gqa=True)
        stretches.append(done.transpose(0, 1))
    return torch.cat(stretches)


def attention_by_rows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: Any) -> torch.Tensor:
    """What ``flash_attn_func`` computes: q, k, v are [rows, tokens, heads, size]."""
    one = (t.transpose(1, 2) for t in (q, k, v))
    return nn.functional.scaled_dot_product_attention(*one, is_causal=True, enable_gqa=True).transpose(1, 2)


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' own flash attention path, with the two kernels spelled in torch."""
    from transformers import modeling_flash_attention_utils

    functions = (attention_by_rows, attention_by_lengths, None, None, None)

    def found(*_: Any, **__: Any) -> Any:
        return functions, (lambda **named: {}, None)

    monkeypatch.setattr(modeling_flash_attention_utils, "lazy_import_flash_attention", found)


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize("build", [qwen2, llama])
def test_flash_attention_keeps_the_examples_of_every_block_apart(build: Callable[[], nn.Module]) -> None:
    expected = alone(built(build, "sdpa"), [e for b in BLOCKS for e in b])
    model = built(build, "flash_attention_2")
    assert keeps_packed_apart(model)
    for with_head in (True, False):
        found = token_logprobs(model, packed(), find_head(model) if with_head else None)
        assert found.values.tolist() == pytest.approx(expected, abs=1e-5)
        assert found.rows.tolist() == [0] * 10 + [1] * 9


def test_only_flash_attention_gets_all_blocks_as_one_row() -> None:
    for attention, shape in (("sdpa", (2, 16)), ("flash_attention_2", (1, 32))):
        inputs = model_inputs(built(qwen2, attention), packed())
        assert inputs["input_ids"].shape == inputs["position_ids"].shape == shape
        assert inputs["attention_mask"] is None
        lengths = {name: inputs[name] for name in inputs if name.startswith(("cu_seq", "max_length"))}
        if attention == "sdpa":
            assert lengths == {}
        else:  # padding is a run of sequences of one token
            assert lengths["cu_seq_lens_q"].tolist() == [0, 5, 6, 13, 14, 15, 16, 25, *range(27, 33)]
            assert lengths["cu_seq_lens_k"] is lengths["cu_seq_lens_q"]
            assert lengths["max_length_q"] == lengths["max_length_k"] == 9


def test_a_loss_counts_each_token_by_its_weight(model: nn.Module) -> None:
    """Two tokens of weight 1 and two of 0.5, packed or not."""
    full, half = example([5, 6, 7], [X, 6, 7]), example([8, 9, 10], [X, 9, 10], [0.5] * 3)
    values = alone(model, [full, half])
    for batch in (packed([[full, half]]), collate_sequences([full, half], [0, 1], 0, strict=False)):
        logprobs = token_logprobs(model, batch, find_head(model), linear=True)
        assert logprobs.weights is not None
        assert logprobs.weights.tolist() == [1, 1, 0.5, 0.5]
        expected = -(values[0] + values[1] + 0.5 * values[2] + 0.5 * values[3])
        assert float(loss(logprobs, batch, None)[0]) == pytest.approx(expected, abs=1e-5)
        assert batch.weight == 3


def test_a_loss_without_weights_is_the_plain_sum(model: nn.Module) -> None:
    logprobs = token_logprobs(model, packed(), find_head(model), linear=True)
    assert logprobs.weights is None
    assert torch.equal(loss(logprobs, packed(), None)[0], -logprobs.values.sum())
