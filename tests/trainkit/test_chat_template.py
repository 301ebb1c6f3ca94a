"""The chat template that is saved with a model spells what training spelled: the slots are the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.own_template import OwnTemplate
from registry.records import Message
from registry.render import RenderRules, SlotRenderer, prompt_of
from registry.templates import Slot, load_template, template_names
from registry.tokenizer import open_tokenizer
from trainkit.chat_template import chat_template_of, to_jinja

BOS, EOS = "<bos>", "<eos>"
WORDS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["{{content}}", "{{ x }}", "{% if %}", "{#", '"\\n"', " \n", "'"]
)
TURNS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3)


def text_of(slots: tuple[Slot, ...]) -> str:
    own = {"bos_token": BOS, "eos_token": EOS}
    return "".join(s if isinstance(s, str) else own[s.of] if s.of else s.text or "" for s in slots)


@pytest.mark.parametrize("name", template_names())
@given(turns=TURNS, system=WORDS, default=st.none() | WORDS)
def test_the_jinja_spells_what_the_slots_spell(
    name: str, turns: list[tuple[str, str]], system: str, default: str | None
) -> None:
    template = load_template(name)
    renderer = SlotRenderer(template, RenderRules(default_system=default))
    messages = [Message(role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True)]
    spelled = "".join(text_of((*turn.source, *turn.target)) for turn in renderer.turns(messages, system))
    asked = [{"role": "system", "content": system}] if system else []
    asked += [{"role": m.role, "content": m.content} for m in messages]
    jinja = OwnTemplate(to_jinja(template, default), bos_token=BOS, eos_token=EOS)
    assert jinja.render(asked, add_generation_prompt=False) == spelled
    prompt = text_of(prompt_of(messages[:-1], system, renderer))
    assert jinja.render(asked[:-1], add_generation_prompt=True) == prompt


def test_there_are_eight_templates() -> None:
    assert len(template_names()) == 8


def test_plain_transformers_renders_it_alike(model_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.chat_template = to_jinja(load_template("llama2"))
    tokenizer.bos_token, tokenizer.eos_token = "<|im_start|>", "<|im_end|>"
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
    ]
    assert (
        tokenizer.apply_chat_template(messages, tokenize=False)
        == "<|im_start|>[INST] <<SYS>>\nS\n<</SYS>>\n\nq [/INST]a<|im_end|>"
    )


def test_a_tokenizer_that_spells_alike_keeps_its_own_template(model_folder: Path) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "qwen3_nothink")
    assert chat_template_of("qwen3_nothink", tokenizer, None) is None
    assert chat_template_of(None, tokenizer, None) is None


def test_a_tokenizer_that_spells_otherwise_gets_the_one_it_was_trained_with(model_folder: Path) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "default")
    assert chat_template_of("default", tokenizer, None) == to_jinja(load_template("default"))
    assert chat_template_of("qwen3_nothink", tokenizer, "Be brief.") == to_jinja(
        load_template("qwen3_nothink"), "Be brief."
    )


def test_a_template_that_cannot_be_rendered_is_replaced(model_folder: Path) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "qwen3_nothink")
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert chat_template_of("qwen3_nothink", tokenizer, None) == to_jinja(load_template("qwen3_nothink"))


def test_a_tokenizer_without_a_token_that_the_template_writes_goes_without(model_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert tokenizer.bos_token is None
    tokenizer.chat_template = to_jinja(load_template("llama2"))
    messages = [{"role": "user", "content": "q"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "[INST] q [/INST]"
