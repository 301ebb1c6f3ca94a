"""What a model from scratch will be, checked before anything is built."""

from __future__ import annotations

from typing import Any

import pytest

from registry.errors import Faults, UsageError
from registry.templates import load_template, template_names
from trainkit.init_plan import SIZES, plan_model, special_tokens

NOTHING: dict[str, Any] = {"vocab_size": None, "hidden_size": None, "layers": None, "heads": None, "max_length": None}


def test_a_size_gives_all_that_is_not_given() -> None:
    plan = plan_model("llama", "small", **{**NOTHING, "layers": 7}, template="default")
    assert (plan.arch, plan.layers, plan.hidden_size, plan.vocab_size) == ("llama", 7, 256, 4096)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_can_be_built(size: str) -> None:
    plan = plan_model("qwen2", size, **NOTHING, template="qwen3_nothink")
    assert plan.hidden_size % plan.heads == 0
    assert plan.intermediate_size >= plan.hidden_size * 8 / 3


def test_everything_that_cannot_be_built_is_told_together() -> None:
    with pytest.raises(Faults) as caught:
        plan_model("lama", "tinny", **{**NOTHING, "hidden_size": 30, "heads": 4}, template="qwen")
    assert caught.value.faults == (
        'unknown architecture "lama"; known: qwen2, llama. Did you mean "llama"?',
        'unknown size "tinny"; known: tiny, small, medium, base. Did you mean "tiny"?',
        "hidden size 30 cannot be shared by 4 heads: each needs an even number of columns",
    )


def test_an_unknown_template_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match='unknown template "qwne"\n  Did you mean "qwen"'):
        plan_model("qwen2", "tiny", **NOTHING, template="qwne")


@pytest.mark.parametrize(
    ("template", "tokens", "eos", "bos"),
    [
        ("qwen3_nothink", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_end|>", None),
        ("default", ["<|endoftext|>"], "<|endoftext|>", None),
        (
            "llama3",
            [
                "<|endoftext|>",
                "<|begin_of_text|>",
                "<|start_header_id|>",
                "<|end_header_id|>",
                "<|eot_id|>",
                "<|eom_id|>",
            ],
            "<|eot_id|>",
            "<|begin_of_text|>",
        ),
    ],
)
def test_the_markers_of_a_template_are_special_tokens(
    template: str, tokens: list[str], eos: str, bos: str | None
) -> None:
    assert special_tokens(load_template(template)) == (tokens, eos, bos)


def test_every_template_has_an_end_among_its_tokens() -> None:
    for name in template_names():
        tokens, eos, _ = special_tokens(load_template(name))
        assert eos in tokens
