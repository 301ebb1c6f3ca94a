"""What the libraries' optimizers are told: transformers' own way of building them and the layers' are the oracle."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from registry.errors import UsageError
from tests.trainkit.optimizers.tiny import IDS, lora, optimizer_of, qwen2, take_steps, trained, weights
from trainkit.optimizers.clip import clip_gradients
from trainkit.optimizers.state import load_state_tensors, state_tensors
from trainkit.optimizers.targets import is_named_target, is_target


def needs(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")


def same_weights(one: nn.Module, other: nn.Module, **tolerance: float) -> None:
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, **(tolerance or {"rtol": 1e-6, "atol": 1e-7}), msg=name)


@pytest.mark.parametrize(
    ("optim", "optim_args"),
    [
        ("galore_adamw", "rank=4,update_proj_gap=2"),
        ("galore_adafactor", "rank=4,update_proj_gap=2"),
        ("apollo_adamw", "rank=4,update_proj_gap=2,proj=svd"),
        ("adafactor", None),
        ("rmsprop", "alpha=0.9"),
        ("ademamix_8bit", "beta3=0.99"),
    ],
)
def test_a_name_of_transformers_steps_as_its_trainer_would(optim: str, optim_args: str | None) -> None:
    """Three steps against the optimizer made of ``Trainer.get_optimizer_cls_and_kwargs`` as the Trainer makes it."""
    from transformers import Trainer

    needs("galore_torch", "apollo_torch", "bitsandbytes")
    targets = ["proj"] if optim.startswith(("galore", "apollo")) else None
    ours, theirs = qwen2(), qwen2()
    asked: Any = SimpleNamespace(
        optim=optim, learning_rate=0.003, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, weight_decay=0.0,
        optim_args=optim_args, optim_target_modules=targets, gradient_accumulation_steps=1, parallel_mode=None,
    )  # fmt: skip
    kind, options = Trainer.get_optimizer_cls_and_kwargs(asked, theirs)
    oracle = kind(options.pop("params", [{"params": list(theirs.parameters()), "weight_decay": 0.0}]), **options)
    told = {"optim_target_modules": "proj"} if targets else {}
    # APOLLO's random seeds count weights in the order of the groups; its SVD has none.
    take_steps(ours, optimizer_of(ours, optim=optim, optim_args=optim_args, **told), 3)
    take_steps(theirs, oracle, 3)
    same_weights(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["galore", "apollo"])
def test_layer_by_layer_is_the_same_step(name: str) -> None:
    needs(f"{name}_torch")
    keys = {f"use_{name}": True, f"{name}_rank": 4}
    if name == "apollo":
        keys["apollo_proj"] = "svd"  # the seed of a random projection counts weights, and each is alone here
    ours, theirs = qwen2(), qwen2()
    by_layer = optimizer_of(ours, **keys, **{f"{name}_layerwise": True})
    assert by_layer.in_backward  # type: ignore[attr-defined]
    take_steps(ours, by_layer, 3)
    take_steps(theirs, optimizer_of(theirs, **keys), 3)
    same_weights(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("changes", [{"use_galore": True, "galore_layerwise": True}, {"optim": "lomo"}])
def test_a_trial_pass_moves_no_weight(changes: dict[str, Any]) -> None:
    needs("galore_torch", "lomo_optim")
    model = qwen2()
    optimizer: Any = optimizer_of(model, **changes)
    before = weights(model)
    with optimizer.paused():
        model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    take_steps(model, optimizer, 1)
    assert not all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_lomo_is_gradient_descent_at_the_rate_of_the_step() -> None:
    needs("lomo_optim")
    ours, theirs = qwen2(), qwen2()
    optimizer = optimizer_of(ours, optim="lomo")
    plain = torch.optim.SGD(theirs.parameters(), lr=1.0)
    for lr in (0.1, 0.05, 0.2):
        take_steps(ours, optimizer, 1, lr=lr)
        take_steps(theirs, plain, 1, lr=lr)
    same_weights(ours, theirs, rtol=1e-5, atol=1e-6)


def test_muon_takes_matrices_and_adamw_the_embeddings_head_and_vectors() -> None:
    model = qwen2()
    optimizer: Any = optimizer_of(model, use_muon=True, weight_decay=0.1)
    muon, adamw = optimizer.parts
    names = {id(p): name for name, p in model.named_parameters()}
    by_muon = {names[id(p)].rpartition(".")[0].rpartition(".")[2] for g in muon.param_groups for p in g["params"]}
    assert by_muon == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    by_adamw = [names[id(p)] for g in adamw.param_groups for p in g["params"] if g["weight_decay"]]
    assert sorted(by_adamw) == ["lm_head.weight", "model.embed_tokens.weight"]


def test_muons_step_has_the_size_of_adamws() -> None:
    """Liu et al. 2025, eq. 4: the root mean square of an update is 0.2 of the learning rate, whatever the gradient."""
    layer = nn.Linear(64, 32, bias=False)
    before = layer.weight.detach().clone()
    optimizer = optimizer_of(layer, use_muon=True)
    layer.weight.grad = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)) * 1e-3
    optimizer.step()
    size = (layer.weight - before).pow(2).mean().sqrt().item()
    assert size == pytest.approx(0.2 * 0.003, rel=0.25)  # five Newton-Schulz steps leave singular values of 0.7 to 1.2


def test_adam_mini_keeps_one_number_for_a_head() -> None:
    needs("adam_mini")
    model = qwen2()
    optimizer = optimizer_of(model, use_adam_mini=True)
    take_steps(model, optimizer, 1)
    sizes = {name.split(".", 3)[-1]: optimizer.state[p]["vmean"].numel() for name, p in model.named_parameters() if "layers.0" in name and "bias" not in name}  # fmt: skip
    assert sizes["self_attn.q_proj.weight"] == 2  # heads
    assert sizes["self_attn.k_proj.weight"] == 1
    assert sizes["mlp.down_proj.weight"] == 16  # rows
    assert sizes["input_layernorm.weight"] == 1


def test_badam_trains_one_block_then_the_next() -> None:
    needs("badam")
    model = qwen2()
    optimizer = optimizer_of(model, use_badam=True, badam_switch_interval=3)
    moved = []
    for _ in range(6):
        before = weights(model)
        take_steps(model, optimizer, 1)
        moved.append({n.split(".")[2] for n, p in model.named_parameters() if not torch.equal(before[n], p)})
    # its first block is one step short: it changes where the steps taken and one more are a multiple
    assert moved == [{"0"}, {"0"}, {"1"}, {"1"}, {"1"}, {"0"}]


def test_badam_decays_by_the_key_and_neither_biases_nor_norms() -> None:
    needs("badam")
    model = qwen2()
    optimizer: Any = optimizer_of(model, use_badam=True, weight_decay=0.25)
    assert {g["weight_decay"] for g in optimizer.base_optimizer.param_groups if g["params"]} == {0.25, 0.0}


def test_badam_says_nothing_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    needs("badam")
    for verbose in (0, 1):
        model = qwen2()
        optimizer = optimizer_of(model, use_badam=True, badam_switch_interval=2, badam_verbose=verbose)
        take_steps(model, optimizer, 3)
        ran = capfd.readouterr()
        assert ran.out == ""
        assert ("trainable" in ran.err) == bool(verbose)


def test_bitsandbytes_keeps_moments_in_8_bits_on_the_cpu_but_embeddings_in_32() -> None:
    needs("bitsandbytes")
    model = qwen2(hidden_size=256)
    optimizer = optimizer_of(model, optim="adamw_8bit")
    take_steps(model, optimizer, 1)
    kinds = {name: optimizer.state[p]["state1"].dtype for name, p in model.named_parameters()}
    assert kinds["model.layers.0.mlp.up_proj.weight"] == torch.uint8
    assert kinds["model.embed_tokens.weight"] == torch.float32


@pytest.mark.parametrize("max_norm", [0.0, 0.1, 100.0])
def test_gradients_are_clipped_as_torch_clips_them_sparse_or_not(max_norm: float) -> None:
    grads = [torch.randn(4, 4, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    dense = [nn.Parameter(torch.zeros(4, 4)) for _ in grads]
    sparse = [nn.Parameter(torch.zeros(4, 4)) for _ in grads]
    for p, q, g in zip(dense, sparse, grads, strict=True):
        p.grad, q.grad = g.clone(), g.to_sparse()
    expected = nn.utils.clip_grad_norm_(dense, max_norm or torch.inf)
    torch.testing.assert_close(clip_gradients(sparse, max_norm), expected)
    for p, q in zip(dense, sparse, strict=True):
        torch.testing.assert_close(q.grad.to_dense(), p.grad)  # type: ignore[union-attr]


def test_the_state_of_other_weights_is_refused() -> None:
    model, other = qwen2(), lora(qwen2())
    optimizer = optimizer_of(model)
    take_steps(model, optimizer, 1)
    saved = state_tensors(optimizer, trained(model))
    with pytest.raises(UsageError, match="is not trained here"):
        load_state_tensors(optimizer_of(other, finetuning_type="lora"), trained(other), saved)


def test_schedule_free_weights_for_use_are_put_in_and_taken_out() -> None:
    needs("schedulefree")
    model = qwen2()
    optimizer: Any = optimizer_of(model, optim="schedule_free_adamw")
    take_steps(model, optimizer, 3)
    before = weights(model)
    optimizer.eval()
    assert not torch.equal(before["lm_head.weight"], model.lm_head.weight)  # type: ignore[union-attr, arg-type]
    optimizer.train()
    torch.testing.assert_close(before["lm_head.weight"], model.lm_head.weight.detach())  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    ("module", "targets", "meant"),
    [
        ("model.layers.0.mlp.up_proj", ["all"], True),
        ("lm_head", ["all"], False),
        ("model.layers.0.mlp.up_proj", ["mlp"], True),
        ("model.layers.0.mlp.up_proj", ["self_attn"], False),
    ],
)
def test_galores_targets_are_parts_of_names_or_all_but_the_head(module: str, targets: list[str], meant: bool) -> None:
    assert is_target(module, targets) is meant


def test_optim_target_modules_are_parts_patterns_or_all_linear() -> None:
    name = "model.layers.0.mlp.up_proj"
    assert is_named_target(name, ["all-linear"])
    assert is_named_target(name, [".*up_proj"])
    assert is_named_target(name, ["attn", "mlp"])
    assert not is_named_target(name, ["attn"])
