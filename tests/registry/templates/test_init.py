"""Built-in templates: the files say what LLaMA-Factory 0.9.5 spells, and each is found by name."""

import json

import pytest

from registry.errors import UsageError
from registry.templates import Token, load_template, template_from, template_names
from tests.conftest import SHARED, needs_shared

BUILT_IN = ["chatml", "default", "empty", "llama2", "llama3", "mistral", "qwen", "qwen3_nothink"]


def test_the_first_eight_are_there():
    assert set(BUILT_IN) <= set(template_names())
    assert template_names() == sorted(template_names())


@pytest.mark.parametrize("name", template_names())
def test_every_template_has_a_place_for_the_text_of_each_role(name):
    template = load_template(name)
    for role in ("user", "assistant", "system", "observation", "function"):
        places = [slot for slot in getattr(template, role) if isinstance(slot, str) and "{{content}}" in slot]
        assert len(places) == 1, role


@needs_shared
@pytest.mark.parametrize("name", template_names())
def test_a_template_equals_the_reference_slot_by_slot(name):
    """Source: shared/reference/chat_templates.json, made from LLaMA-Factory 0.9.5."""
    theirs = json.loads((SHARED / "reference" / "chat_templates.json").read_text("utf-8"))[name]
    template = load_template(name)
    for role in ("user", "assistant", "system", "observation", "function", "prefix"):
        assert [as_json(slot) for slot in getattr(template, role)] == theirs[role], role
    for key in ("default_system", "efficient_eos", "replace_eos", "tool_format"):
        assert getattr(template, key) == theirs[key], key
    assert list(template.stop_words) == theirs["stop_words"]
    assert template.system_in_user == (theirs["class"] == "Llama2Template")


def as_json(slot):
    if isinstance(slot, str):
        return slot
    return {"token_of": slot.of} if slot.of else {"token": slot.text}


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
