"""Two processes train as one does: every backend that shares the work, by the numbers and by what really ran."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from tests.trainkit.backends.standin import Setup, train, train_together
from tests.trainkit.backends.two import Pair

needs_deepspeed = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")
ZERO_3 = {"stage": 3, "stage3_param_persistence_threshold": 0}  # the small weights are shared too


def zero(stage: int, **more: Any) -> dict[str, Any]:
    section = ZERO_3 if stage == 3 else {"stage": stage}
    return {
        "deepspeed": {"zero_optimization": section, "train_batch_size": "auto", "gradient_clipping": "auto", **more}
    }


# name: (keys, the wrapper, the optimizer around ours, whether a process holds the whole of a weight)
BACKENDS: dict[str, tuple[dict[str, Any], str, str, bool]] = {
    "ddp": ({}, "DistributedDataParallel", "AdamW", True),
    "fsdp2": ({"fsdp": "full_shard auto_wrap"}, "FSDPObjective", "AdamW", False),
    "fsdp2-zero2": ({"fsdp": "shard_grad_op"}, "FSDPObjective", "AdamW", False),
    "zero-0": (zero(0), "DeepSpeedEngine", "AdamW", True),
    "zero-1": (zero(1), "DeepSpeedEngine", "DeepSpeedZeroOptimizer", True),
    "zero-2": (zero(2), "DeepSpeedEngine", "DeepSpeedZeroOptimizer", True),
    "zero-3": (zero(3), "DeepSpeedEngine", "DeepSpeedZeroOptimizer_Stage3", False),
}
EACH = [pytest.param(name, marks=needs_deepspeed if "zero-" in name else ()) for name in BACKENDS]
CASES = {
    "tied, accumulated, after a discarded step": Setup(accumulation=4, discard=True),
    "untied with a value head": Setup(tied=False, v_head=True),
    "an adapter, recomputed": Setup(lora=True, recompute=True),
}
CLOSE = 1e-5


@cache
def alone(case: str) -> dict[str, Any]:
    return train(replace(CASES[case], discard=False))


def shared(setup: Setup, keys: dict[str, Any]) -> Setup:
    """The same rows a step, half of the micro-batches in each of two processes."""
    sizes = {
        "per_device_train_batch_size": 8 // setup.accumulation,
        "gradient_accumulation_steps": setup.accumulation // 2,
    }
    return replace(setup, keys=keys | sizes)


def furthest(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[name] - value).abs().max()) for name, value in expected.items())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", EACH)
def test_two_processes_train_as_one_does(two: Pair, name: str, case: str) -> None:
    keys, wrapper, optimizer, whole = BACKENDS[name]
    expected = alone(case)
    first, second = two(train_together, shared(CASES[case], keys))
    assert (first["module"], first["optimizer_kind"]) == (wrapper, optimizer)
    assert (first["local"] == first["whole"]) is whole
    assert first["losses"] == second["losses"] == pytest.approx(expected["losses"], abs=CLOSE)
    assert first["norms"] == second["norms"] == pytest.approx(expected["norms"], abs=CLOSE)
    assert (
        furthest(first["weights"], expected["weights"]) < 5e-5
    )  # three steps of 0.01, each by the sign of small gradients
    assert furthest(first["optimizer"], expected["optimizer"]) < CLOSE
    assert (second["weights"], second["optimizer"], second["random"]) == (None, None, None)


@pytest.mark.parametrize("name", [p for p in EACH if p.values[0] in ("ddp", "fsdp2", "zero-2", "zero-3")])
def test_a_run_goes_on_in_one_process_and_again_in_two(two: Pair, name: str) -> None:
    setup = Setup(steps=2, accumulation=2)
    keys = BACKENDS[name][0]
    through = train(replace(setup, steps=6))
    state = two(train_together, shared(setup, keys))[0]
    losses = state["losses"]
    state = train(setup, state)
    losses += state["losses"]
    state = two(train_together, shared(setup, keys), state)[0]
    losses += state["losses"]
    assert losses == pytest.approx(through["losses"], abs=CLOSE)
    assert furthest(state["optimizer"], through["optimizer"]) < CLOSE


@pytest.mark.parametrize("name", [p for p in EACH if p.values[0] in ("ddp", "fsdp2", "zero-2", "zero-3")])
def test_resuming_in_as_many_processes_changes_no_bit(two: Pair, name: str) -> None:
    setup = shared(Setup(steps=4), BACKENDS[name][0])
    through = two(train_together, setup)[0]
    state = two(train_together, replace(setup, steps=2))[0]
    state = two(train_together, replace(setup, steps=2), state)[0]
    assert state["losses"] == through["losses"][2:]
    assert furthest(state["weights"], through["weights"]) == 0
    assert furthest(state["optimizer"], through["optimizer"]) == 0


@pytest.mark.parametrize("name", [p for p in EACH if p.values[0] in ("fsdp2", "zero-1", "zero-2", "zero-3")])
def test_bf16_keeps_exact_weights_for_the_checkpoint(two: Pair, name: str) -> None:
    setup = Setup(steps=2, keys={"bf16": True})
    expected = train(setup)
    keys = {**BACKENDS[name][0], "bf16": True}
    if "deepspeed" in keys:
        keys["deepspeed"] = {**keys["deepspeed"], "bf16": {"enabled": "auto"}}
    setup = shared(setup, keys)
    through = two(train_together, replace(setup, steps=4))[0]
    state = two(train_together, setup)[0]
    assert state["losses"] == pytest.approx(expected["losses"], abs=0.03)
    assert any(v.dtype == torch.float32 and not torch.equal(v, v.bfloat16().float()) for v in state["weights"].values())
    state = two(train_together, setup, state)[0]
    assert state["losses"] == pytest.approx(through["losses"][2:], abs=1e-6)


def test_an_adapter_is_saved_without_its_base(two: Pair) -> None:
    names = alone("an adapter, recomputed")["weights"]
    assert names
    assert all("lora_" in name for name in names)


def test_every_rank_has_its_own_random_numbers(two: Pair) -> None:
    state = two(train_together, shared(Setup(steps=1), {}))[0]["random"]
    assert set(state) == {"0|cpu", "1|cpu"}
    assert not torch.equal(state["0|cpu"], state["1|cpu"])
