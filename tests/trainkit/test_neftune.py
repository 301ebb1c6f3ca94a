"""Noise on embeddings: how large, when, and out of which generator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trainkit.neftune import add_noise, sequence_lengths


def model() -> nn.Module:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1)).train()


def noise(net: nn.Module, **inputs: torch.Tensor) -> torch.Tensor:
    """What the embeddings give beyond their own."""
    seen: list[torch.Tensor] = []
    embeddings = net.get_input_embeddings()  # type: ignore[operator]
    hook = embeddings.register_forward_hook(lambda m, a, out: seen.append(out))
    net.base_model(**inputs, use_cache=False)  # type: ignore[operator]
    hook.remove()
    return (seen[0] - embeddings.weight[inputs["input_ids"]]).detach()


def test_noise_is_uniform_within_alpha_over_the_root_of_length_times_width() -> None:
    net = model()
    add_noise(net, 5.0)
    found = noise(net, input_ids=torch.zeros(8, 32, dtype=torch.int64))
    bound = 5 / (32 * 16) ** 0.5
    assert float(found.abs().max()) <= bound * 1.0001
    assert float(found.std()) == pytest.approx(bound / 3**0.5, rel=0.05)  # of a uniform distribution


def test_it_is_transformers_own_on_rows_of_one_sequence() -> None:
    from transformers.integrations.neftune import activate_neftune

    ids, found = torch.arange(12).view(2, 6), []
    for put in (add_noise, activate_neftune):
        net = model()
        put(net, 5.0)
        torch.manual_seed(3)
        found.append(noise(net, input_ids=ids, attention_mask=torch.ones_like(ids)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_a_sequence_that_shares_its_row_has_noise_of_its_own_length() -> None:
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
    assert sequence_lengths(positions).tolist() == [[8] * 8 + [2] * 2, [10] * 10]
    net = model()
    add_noise(net, 5.0)
    found = noise(net, input_ids=torch.zeros(2, 10, dtype=torch.int64), position_ids=positions).abs()
    long, short = 5 / (8 * 16) ** 0.5, 5 / (2 * 16) ** 0.5
    assert 0.8 * long < float(found[0, :8].max()) <= long * 1.0001
    assert long < float(found[0, 8:].max()) <= short * 1.0001


def test_there_is_none_in_evaluation_and_none_in_what_is_saved() -> None:
    net = model()
    names = set(net.state_dict())
    add_noise(net, 5.0)
    assert float(noise(net.eval(), input_ids=torch.zeros(2, 6, dtype=torch.int64)).abs().max()) == 0
    assert set(net.state_dict()) == names


def test_the_same_generator_gives_the_same_noise() -> None:
    net, ids = model(), torch.zeros(2, 6, dtype=torch.int64)
    add_noise(net, 5.0)
    state = torch.get_rng_state()
    first = noise(net, input_ids=ids)
    assert not torch.equal(noise(net, input_ids=ids), first)
    torch.set_rng_state(state)
    assert torch.equal(noise(net, input_ids=ids), first)
