"""The chat template that is saved with a model spells what training spelled: the slots are the oracle."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import RowFault
from registry.own_template import OwnTemplate
from registry.records import Message
from registry.render import RenderRules, SlotRenderer, prompt_of
from registry.templates import Slot, Template, load_template, template_names
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
@settings(max_examples=6)
@given(turns=TURNS, system=WORDS, default=st.sampled_from([None, "", ' "{{ x }}\n']))
def test_the_jinja_spells_what_the_slots_spell(
    name: str, turns: list[tuple[str, str]], system: str, default: str | None
) -> None:
    assert_alike(load_template(name), said(turns), system, RenderRules(default_system=default))


def said(pairs: list[tuple[str, str]], asked: str = "user") -> list[Message]:
    return [Message(role, text) for pair in pairs for role, text in zip((asked, "assistant"), pair, strict=True)]  # type: ignore[arg-type]


def assert_alike(template: Template, messages: list[Message], system: str, rules: RenderRules) -> None:
    """The whole conversation, and the prompt of its last answer, also where the switches come with the request."""
    roles = {"observation": "tool"}
    asked = [{"role": "system", "content": system}] if system else []
    asked += [{"role": roles.get(m.role, m.role), "content": m.content} for m in messages]
    renderer = SlotRenderer(template, rules)
    turns = renderer.turns(messages, system, last_only=True)
    whole = "".join(text_of((*turn.source, *turn.thought, *turn.target)) for turn in turns)
    prompt = text_of(prompt_of(messages[:-1], system, renderer))
    # Saved with these rules; or saved with the other switch, and told so by the request.
    pairs = [(rules, RenderRules(enable_thinking=None))]
    if template.thinking and rules.enable_thinking is not None:
        other = replace(rules, enable_thinking=not rules.enable_thinking)
        pairs.append((other, RenderRules(enable_thinking=rules.enable_thinking)))
    for saved, request in pairs:
        jinja = compiled(template, saved, request)
        assert jinja.render(asked, add_generation_prompt=False) == whole
        assert jinja.render(asked[:-1], add_generation_prompt=True) == prompt


@cache
def compiled(template: Template, saved: RenderRules, request: RenderRules) -> OwnTemplate:
    return OwnTemplate(to_jinja(template, saved), bos_token=BOS, eos_token=EOS, rules=request)


THINKING = [name for name in template_names() if load_template(name).thinking]


@pytest.mark.parametrize("name", THINKING)
@settings(max_examples=25)
@given(data=st.data(), enable=st.sampled_from([True, False, None]), preserve=st.booleans())
def test_thoughts_are_kept_left_out_and_written_empty_as_the_slots_do(
    name: str, data: st.DataObject, enable: bool | None, preserve: bool
) -> None:
    template = load_template(name)
    first, second = template.thought_words
    words = st.sampled_from([first, second, first.strip(), second.strip(), "a", "\n", "b"])
    answer = st.lists(words, max_size=7).map("".join)
    pairs = data.draw(st.lists(st.tuples(st.just("q"), answer), min_size=1, max_size=3))
    assert_alike(template, said(pairs), "s", RenderRules(enable_thinking=enable, preserve_thinking=preserve))


@pytest.mark.parametrize("name", template_names())
def test_results_of_tools_are_spelled_as_the_slots_do(name: str) -> None:
    messages = [*said([("q", "a")]), *said([("{}", "b")], "observation")]
    assert_alike(load_template(name), messages, "", RenderRules())


@pytest.mark.parametrize(
    ("messages", "tools", "reason"),
    [
        ([{"role": "user", "content": "q"}], [{"type": "function"}], "does not spell tools; it was made from .* qwen"),
        ([{"role": "user", "content": [{"type": "image"}]}], None, "spells text alone"),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}], None, "no tool calls"),
        ([{"role": "critic", "content": "no"}], None, "the role critic has no place here"),
    ],
)
def test_what_the_jinja_cannot_spell_it_refuses(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, reason: str
) -> None:
    with pytest.raises(RowFault, match=reason):
        OwnTemplate(to_jinja(load_template("qwen"))).render(messages, add_generation_prompt=True, tools=tools)


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
    assert chat_template_of("qwen3_nothink", tokenizer, RenderRules()) is None
    assert chat_template_of(None, tokenizer, RenderRules()) is None


def test_a_tokenizer_that_spells_otherwise_gets_the_one_it_was_trained_with(model_folder: Path) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "default")
    assert chat_template_of("default", tokenizer, RenderRules()) == to_jinja(load_template("default"))
    assert chat_template_of("qwen3_nothink", tokenizer, RenderRules(default_system="Be brief.")) == to_jinja(
        load_template("qwen3_nothink"), RenderRules(default_system="Be brief.")
    )


def test_a_template_that_cannot_be_rendered_is_replaced(model_folder: Path) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "qwen3_nothink")
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert chat_template_of("qwen3_nothink", tokenizer, RenderRules()) == to_jinja(load_template("qwen3_nothink"))


def test_a_tokenizer_without_a_token_that_the_template_writes_goes_without(model_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert tokenizer.bos_token is None
    tokenizer.chat_template = to_jinja(load_template("llama2"))
    messages = [{"role": "user", "content": "q"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "[INST] q [/INST]"
