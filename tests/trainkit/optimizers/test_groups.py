"""The groups of decayed, undecayed and LoRA+ weights, and AdamW over them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.trainkit.optimizers.tiny import lora, optimizer_of, trained
from trainkit.optimizers.groups import undecayed_names

OPTIM = {"learning_rate": 0.01, "weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-6}


def qwen2() -> nn.Module:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    )


def oddly_named() -> nn.Module:
    names = (
        "norm",
        "q_norm",
        "my_layernorm_2",
        "RMSNorm_1",
        "norm_1",
        "normal",
        "renorm",
        "abnorm",
        "bias_table",
        "weights",
    )
    return nn.ModuleDict({name: nn.Embedding(2, 2) for name in names})


@pytest.mark.parametrize("build", [qwen2, gpt2, oddly_named])
def test_what_is_not_decayed_is_what_transformers_does_not_decay(build) -> None:  # type: ignore[no-untyped-def]
    from transformers import Trainer

    model = build()
    names = {name for name, _ in model.named_parameters()}
    decayed = Trainer.get_decay_parameter_names(None, model)  # reads nothing of the trainer itself
    assert names - undecayed_names(model) == names & set(decayed)  # theirs lists a tied head besides
    assert any("norm" in name or "ln_" in name for name in undecayed_names(model))


def test_the_two_groups_hold_every_trained_parameter_once() -> None:
    model = qwen2()
    trainable = [(name, p) for name, p in model.named_parameters() if "layers.1" in name]
    optimizer = optimizer_of(model, trainable, **OPTIM)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert sorted(id(p) for group in optimizer.param_groups for p in group["params"]) == sorted(
        id(p) for _, p in trainable
    )


def test_a_group_with_nothing_in_it_is_left_out() -> None:
    layer = nn.Linear(2, 2, bias=False)
    assert len(optimizer_of(layer, **OPTIM).param_groups) == 1


def test_two_steps_are_adamw_worked_out_by_hand() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, in float64 Python numbers."""
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.fill_(-0.25)
    optimizer = optimizer_of(layer, **OPTIM)
    expected = {"weight": 0.5, "bias": -0.25}
    moments = {name: [0.0, 0.0] for name in expected}
    for number, gradients in enumerate(({"weight": 2.0, "bias": -1.0}, {"weight": -0.5, "bias": 3.0}), start=1):
        layer.weight.grad, layer.bias.grad = torch.tensor([[gradients["weight"]]]), torch.tensor([gradients["bias"]])
        optimizer.step()
        for name, gradient in gradients.items():
            first, second = moments[name]
            moments[name] = [0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2]
            mean, variance = moments[name][0] / (1 - 0.8**number), moments[name][1] / (1 - 0.9**number)
            decay = 0.1 if name == "weight" else 0.0  # biases are not decayed
            expected[name] -= 0.01 * decay * expected[name] + 0.01 * mean / (math.sqrt(variance) + 1e-6)
    assert layer.weight.item() == pytest.approx(expected["weight"], abs=1e-6)
    assert layer.bias.item() == pytest.approx(expected["bias"], abs=1e-6)


def test_the_fused_step_equals_torchs_plain_one() -> None:
    torch.manual_seed(0)
    model, plain = qwen2(), qwen2()
    plain.load_state_dict(model.state_dict())
    undecayed = undecayed_names(plain)
    groups = [
        {"params": [p for n, p in plain.named_parameters() if n not in undecayed], "weight_decay": 0.1},
        {"params": [p for n, p in plain.named_parameters() if n in undecayed], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.9), eps=1e-6, fused=False, foreach=False)
    ours = optimizer_of(model, **OPTIM)
    ids = torch.arange(12)[None] % 16
    for _ in range(3):
        for each, optimizer in ((model, ours), (plain, theirs)):
            optimizer.zero_grad()
            each(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
    for ours_p, theirs_p in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours_p, theirs_p, rtol=1e-5, atol=1e-6)


def test_lora_plus_gives_b_and_the_embeddings_adapters_rates_of_their_own() -> None:
    """Hayou et al. 2024: at a ratio of 16, A learns at 0.01, B at 0.16, an embedding's B at the rate named for it."""
    model = lora(qwen2())
    trainable = [*trained(model), ("model.embed.lora_embedding_B.default", nn.Parameter(torch.zeros(2, 2)))]
    plus = {"loraplus_lr_ratio": 16.0, "loraplus_lr_embedding": 1e-5, "finetuning_type": "lora"}
    optimizer = optimizer_of(model, trainable, **OPTIM | plus)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in trainable:
        expected = 1e-5 if "embedding" in name else 0.16 if "lora_B" in name else 0.01
        assert rates[id(parameter)] == pytest.approx(expected), name
    assert sorted({group["lr_scale"] for group in optimizer.param_groups}) == pytest.approx([0.001, 1.0, 16.0])
