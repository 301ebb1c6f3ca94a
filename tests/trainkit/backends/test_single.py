"""The single backend: one process, one device, its random state in hand."""

from __future__ import annotations

import torch

from trainkit.backends import BACKENDS
from trainkit.backends.single import Single


def test_the_cpu_is_taken_when_asked_for() -> None:
    backend = BACKENDS["single"](use_cpu=True, bf16=False)
    assert backend.device == torch.device("cpu")
    assert (backend.rank, backend.world_size) == (0, 1)


def test_a_saved_random_state_draws_the_same_again() -> None:
    backend = Single(use_cpu=True, bf16=False)
    state = backend.random_state()
    first = torch.rand(3)
    backend.set_random_state(state)
    assert torch.equal(torch.rand(3), first)
    assert {name: tensor.dtype for name, tensor in state.items()} == {"cpu": torch.uint8}


def test_bf16_computes_in_bfloat16_and_nothing_else_does() -> None:
    layer = torch.nn.Linear(2, 2)
    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with Single(use_cpu=True, bf16=bf16).autocast():
            assert layer(torch.ones(1, 2)).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_one_rank_is_its_own_sum() -> None:
    assert Single(use_cpu=True, bf16=False).sum(torch.tensor(3.5)).item() == 3.5
