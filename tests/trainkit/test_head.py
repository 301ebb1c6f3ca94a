"""Finding the head of real architectures; what their own forward pass gives is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from trainkit.head import Head, OutputHead, decoder_and_head, find_head

SIZES: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def build(name: str, **changes: Any) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **changes})
    return getattr(transformers, f"{name}ForCausalLM")(config).train()


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes: dict[str, Any] = {"vocab_size": 32, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2))


FOUND: list[tuple[str, Callable[[], nn.Module], float, float | None]] = [
    ("qwen2", lambda: build("Qwen2"), 1.0, None),
    ("gpt2", gpt2, 1.0, None),
    ("phi, with a bias", lambda: build("Phi", num_key_value_heads=2), 1.0, None),
    ("gemma2", lambda: build("Gemma2", head_dim=8, final_logit_softcapping=30.0), 1.0, 30.0),
    ("gemma2 without a cap", lambda: build("Gemma2", head_dim=8, final_logit_softcapping=None), 1.0, None),
    ("cohere", lambda: build("Cohere", logit_scale=0.25), 0.25, None),
    ("granite", lambda: build("Granite", logits_scaling=8.0), 0.125, None),
]


@pytest.mark.parametrize(("make", "scale", "softcap"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND])
def test_scale_and_soft_cap_are_found_though_a_fresh_models_logits_show_neither(
    make: Callable[[], nn.Module], scale: float, softcap: float | None
) -> None:
    model = make().train()
    found = find_head(model)
    assert found is not None
    assert (found.scale, found.softcap) == (scale, softcap)
    assert found.module is model.get_output_embeddings()  # type: ignore[operator]
    assert model.training  # looked at, and left as it was
    plain = found.read()
    assert isinstance(plain, Head)
    assert plain.weight is found.module.weight


def test_a_cap_that_the_config_names_and_the_model_does_not_apply_is_not_believed() -> None:
    model = build("Qwen2")
    model.config.final_logit_softcapping = 5.0  # type: ignore[union-attr]
    found = find_head(model)
    assert found is not None
    assert found.softcap is None


def test_a_model_that_does_something_unknown_to_its_logits_has_no_head_to_be_found() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build("Qwen2")
            self.config = self.inner.config
            self.base_model = self.inner.base_model

        def get_output_embeddings(self) -> Any:
            return self.inner.get_output_embeddings()  # type: ignore[operator]

        def forward(self, **named: Any) -> Any:
            out = self.inner(**named)
            out.logits = out.logits + torch.linspace(0, 1, 32)
            return out

    assert find_head(Shifted()) is None


def test_a_model_without_parts_to_be_found_has_none() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(32, 32)

    assert find_head(Odd()) is None


def adapted(*targets: str, **changes: Any) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=list(targets), init_lora_weights=False, **changes)
    return get_peft_model(build("Qwen2"), config)


def test_the_head_of_an_adapted_model_is_that_of_its_base() -> None:
    model = adapted("q_proj", "down_proj")
    found = find_head(model)
    assert found is not None
    assert found.read() is not None
    assert decoder_and_head(model)[1] is found.module is model.get_base_model().get_output_embeddings()  # type: ignore[operator]


@pytest.mark.parametrize("changes", [{}, {"modules_to_save": ["lm_head"]}])
def test_a_head_with_an_adapter_of_its_own_is_no_plain_matrix(changes: dict[str, Any]) -> None:
    model = adapted("q_proj") if changes else adapted("q_proj", "lm_head")
    if changes:
        model = adapted("q_proj", **changes)
    found = find_head(model)
    assert found is not None
    assert found.read() is None


def test_the_weight_is_read_anew_each_time() -> None:
    module = nn.Linear(4, 6, bias=True)
    head = OutputHead(module)
    module.weight = nn.Parameter(torch.ones(6, 4))
    plain = head.read()
    assert plain is not None
    assert plain.weight is module.weight
    assert plain.bias is module.bias
