"""Built-in templates: the files say what LLaMA-Factory 0.9.5 spells, and each is found by name."""

import json
import re
from dataclasses import replace

import pytest

from registry.errors import UsageError
from registry.records import Message
from registry.render import SlotRenderer
from registry.templates import Token, alias_of, load_template, template_from, template_names
from tests.conftest import SHARED, chat, needs_shared, spelled

BUILT_IN = ["chatml", "default", "empty", "llama2", "llama3", "mistral", "qwen", "qwen3_nothink"]


def test_there_are_121_and_their_names_are_sorted():
    assert set(BUILT_IN) <= set(template_names())
    assert template_names() == sorted(template_names())
    assert len(template_names()) == 121


@pytest.mark.parametrize("name", template_names())
def test_every_template_has_a_place_for_the_text_of_each_role(name):
    template = load_template(name)
    for role in ("user", "assistant", "system", "observation", "function"):
        places = [slot for slot in getattr(template, role) if isinstance(slot, str) and "{{content}}" in slot]
        assert len(places) == 1, role


THINKING = {"ReasoningTemplate": "whole", "Glm47ReasoningTemplate": "closing"}


@needs_shared
@pytest.mark.parametrize("name", template_names())
def test_in_strict_a_template_equals_the_reference_slot_by_slot(name):
    """Source: shared/reference/chat_templates.json, made from LLaMA-Factory 0.9.5."""
    theirs = json.loads((SHARED / "reference" / "chat_templates.json").read_text("utf-8"))[name]
    template = load_template(name, strict=True)
    for role in ("user", "assistant", "system", "observation", "function", "prefix"):
        expected = [] if (name, role) == ("phi_small", "prefix") else theirs[role]  # there as a set, which it drops
        assert [as_json(slot) for slot in getattr(template, role)] == expected, role
    for key in ("default_system", "efficient_eos", "replace_eos", "tool_format", "replace_jinja_template"):
        assert getattr(template, key) == theirs[key], key
    for key in ("stop_words", "thought_words", "tool_call_words"):
        assert list(getattr(template, key)) == theirs[key], key
    assert template.function_format == theirs["function_tool_format"]
    assert template.system_in_user == (theirs["class"] == "Llama2Template")
    assert template.thinking == THINKING.get(theirs["class"], "")
    assert bool(template.media) == (theirs["mm_plugin"] != "BasePlugin")


@needs_shared
def test_each_template_of_the_reference_is_there():
    assert template_names() == sorted(json.loads((SHARED / "reference" / "chat_templates.json").read_text("utf-8")))


def test_two_templates_are_mended_where_they_are_plainly_wrong():
    mended = {name for name in template_names() if load_template(name) != load_template(name, strict=True)}
    assert mended == {"granite4", "phi_small"}
    assert load_template("phi_small").prefix == (Token(text="<|endoftext|>"),)
    assert load_template("granite4").observation[0].endswith("<|start_of_role|>assistant<|end_of_role|>")
    assert load_template("granite4", strict=True).observation[0].endswith("<|start_of_role|>assistant\n")


@pytest.mark.parametrize("name", template_names())
def test_every_template_spells_a_conversation_with_system_text_tools_and_thoughts(name):
    template = load_template(name)
    first, second = template.thought_words
    roles = ("user", "function", "observation", "assistant", "user", "assistant")
    said = ("=3=", '{"name": "f", "arguments": {"a": "=4="}}', "=5=", f"{first}=6={second}=7=", "=8=", "=9=")
    messages = tuple(Message(*each) for each in zip(roles, said, strict=True))  # type: ignore[arg-type]
    tools = '[{"name": "f", "description": "=2=", "parameters": {"type": "object", "properties": {}}}]'
    text = spelled(SlotRenderer(template).turns(messages, "=1=", tools))
    places = [text.index(f"={number}=") for number in range(1, 10)]
    assert places == sorted(places)
    assert "{{" not in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gemma2", "<bos><start_of_turn>user\ns\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n<start_of_turn>user\n"
         "c<end_of_turn>\n<start_of_turn>model\nd<end_of_turn>\n"),
        ("deepseekr1", "<bos>s<｜User｜>a<｜Assistant｜><think>\n\n</think>\n\nb<eos><｜User｜>c<｜Assistant｜><think>\n\n</think>\n\nd<eos>"),
        ("glm4_7", "[gMASK]<sop><|system|>\ns<|user|>\na<|assistant|></think>\nb<|user|>\nc<|assistant|></think>\nd"),
        ("chatglm3", "[gMASK]sop<|system|>\ns<|user|>\na<|assistant|>\nb<|user|>\nc<|assistant|>\nd"),
        ("seed_coder", "<bos>system\ns<eos><bos>user\na<eos><bos>assistant\nb<eos><bos>user\nc<eos><bos>assistant\nd<eos>"),
        ("yuan", "sa<sep>b<eod>\nc<sep>d<eod>\n"),
        ("smollm", "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
         "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n"),
    ],
)  # fmt: skip
def test_a_few_spelled_out(name, text):
    """By hand from the templates' files; there are no goldens of these."""
    assert spelled(SlotRenderer(load_template(name)).turns(chat("a", "b", "c", "d").messages, "s")) == text


def test_another_name_is_the_same_template_under_that_name():
    assert load_template("smollm") == replace(load_template("yi"), name="smollm")
    assert [alias_of(name) for name in ("smollm", "pixtral", "gemma4n", "qwen3_6", "yi")] == [
        "yi", "ministral3", "gemma4", "qwen3_5", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("Qwen2-VL", "qwen2_vl"), ("openchat-3-6", "openchat-3.6"), ("GLM4.5V", "glm4_5v"), ("lama3", "llama3")],
)
def test_a_slip_in_a_name_gets_the_name_that_was_meant(slip, meant):
    with pytest.raises(UsageError, match=f'unknown template "{re.escape(slip)}"\n  Did you mean "{re.escape(meant)}"'):
        load_template(slip)


def as_json(slot):
    if isinstance(slot, str):
        return slot
    return {"token_of": slot.of} if slot.of else {"token": slot.text}


def test_what_a_template_leaves_out_is_as_in_the_reference():
    eos = Token(of="eos_token")
    plain = template_from("mine", {"user": ["U{{content}}"], "assistant": ["{{content}}E"], "tool_format": "qwen"})
    assert (plain.system, plain.observation, plain.function) == (("{{content}}",), plain.user, plain.assistant)
    assert (plain.tool_format, plain.function_format, plain.thinking, plain.prefix) == ("qwen", "qwen", "", ())
    assert template_from("mine", {}).assistant == ("{{content}}", eos)
    assert template_from("mine", {"efficient_eos": True}).function == ("{{content}}",)


def test_slots_are_text_named_tokens_or_the_tokenizers_own():
    roles = {role: ["{{content}}"] for role in ("user", "assistant", "system", "observation", "function")}
    rest = {"default_system": "", "replace_eos": False, "efficient_eos": True, "system_in_user": False}
    raw = {**roles, **rest, "prefix": [{"token": "<s>"}, {"token_of": "eos_token"}, "x"], "stop_words": ["y"]}
    template = template_from("mine", {**raw, "tool_format": "default"})
    assert template.prefix == (Token(text="<s>"), Token(of="eos_token"), "x")
    assert (template.stop_words, template.efficient_eos) == (("y",), True)


def test_an_unknown_name_lists_the_nearest_and_all():
    with pytest.raises(UsageError, match='unknown template "lama3"\n  Did you mean "llama3"') as error:
        load_template("lama3")
    assert all(name in str(error.value) for name in BUILT_IN)


def test_a_template_cannot_be_changed_by_a_run():
    with pytest.raises(AttributeError):
        load_template("qwen").default_system = "mine"  # type: ignore[misc]
    assert load_template("qwen") is load_template("qwen")
