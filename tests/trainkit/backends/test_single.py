"""The single backend: one process, one device, its random state in hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.trainkit.backends.standin import Objective, Setup, adamw, make_model
from trainkit.backends.single import Single, threads_for


def backend() -> Single:
    return Single(use_cpu=True, bf16=False)


def prepared(*sizes: int) -> Single:
    made, objective = backend(), nn.Module()
    objective.model = nn.ParameterList([nn.Parameter(torch.ones(size)) for size in sizes])
    made.prepare(
        objective,
        lambda named: torch.optim.SGD([{"params": [p], "lr_scale": 2.0**n} for n, (_, p) in enumerate(named)]),
    )
    return made


def test_the_cpu_is_taken_when_asked_for() -> None:
    made = backend()
    assert made.device == torch.device("cpu")
    assert (made.rank, made.world_size) == (0, 1)


def test_a_saved_random_state_draws_the_same_again() -> None:
    made = backend()
    state = made.random_state()
    assert state is not None
    first = torch.rand(3)
    made.set_random_state(state)
    assert torch.equal(torch.rand(3), first)
    assert {name: tensor.dtype for name, tensor in state.items()} == {"0|cpu": torch.uint8}
    made.set_random_state({"cpu": state["0|cpu"]})  # as it was written before there were ranks
    assert torch.equal(torch.rand(3), first)


def test_a_rank_without_a_saved_state_draws_from_its_own_seed() -> None:
    made = Single(use_cpu=True, bf16=False, seed=5)
    made.set_random_state({"7|cpu": torch.get_rng_state()})
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)


def test_bf16_computes_in_bfloat16_and_nothing_else_does() -> None:
    layer = torch.nn.Linear(2, 2)
    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with Single(use_cpu=True, bf16=bf16).autocast():
            assert layer(torch.ones(1, 2)).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_one_rank_is_its_own_sum() -> None:
    assert backend().sum(torch.tensor(3.5)).item() == 3.5
    assert backend().sum_numbers([1, 2.5]) == [1.0, 2.5]


@pytest.mark.parametrize(("max_norm", "left"), [(0.0, (3.0, 4.0)), (10.0, (3.0, 4.0)), (0.5, (0.3, 0.4))])
def test_gradients_are_cut_to_the_norm_asked_for(max_norm: float, left: tuple[float, float]) -> None:
    made = prepared(1, 1)
    for parameter, value in zip(made.objective.parameters(), (3.0, 4.0), strict=True):
        parameter.grad = torch.tensor([value])
    assert float(made.clip(max_norm)) == pytest.approx(5.0)
    assert [p.grad.item() for p in made.objective.parameters()] == pytest.approx(left, rel=1e-5)  # type: ignore[union-attr]


def test_a_step_takes_each_groups_own_rate_and_drops_the_gradients() -> None:
    made = prepared(1, 1)
    for parameter in made.objective.parameters():
        parameter.grad = torch.ones(1)
    made.step(0.25)
    assert [p.item() for p in made.objective.parameters()] == [0.75, 0.5]
    assert [p.grad for p in made.objective.parameters()] == [None, None]


def test_without_a_gradient_the_norm_is_nothing() -> None:
    assert float(prepared(2).clip(1.0)) == 0.0


def test_weights_are_copies_under_the_models_own_names() -> None:
    made = backend()
    made.prepare(Objective(make_model(Setup(tied=True, v_head=True)), v_head=True), adamw)
    found = made.weights()
    assert found is not None
    model = made.objective.model
    assert found.keys() == {*model.state_dict(), "v_head.weight", "v_head.bias"}
    assert found["lm_head.weight"] is found["model.embed_tokens.weight"]  # tied weights are one
    before = found["model.norm.weight"].clone()
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    assert torch.equal(found["model.norm.weight"], before)


def test_a_small_model_is_worth_one_thread() -> None:
    assert threads_for(1_000_000) == 1
    assert threads_for(50_000_000) >= 1
