"""Conversations to slots: where prefix, system text and content go, turn by turn."""

import pytest

from registry.errors import RowFault
from registry.records import ChatRecord, Message
from registry.render import RenderRules, SlotRenderer, answers_of, prompt_of, turns_of
from registry.templates import Template, Token, load_template
from tests.conftest import chat, preference, spelled

CHATML = SlotRenderer(load_template("chatml"))
QWEN = SlotRenderer(load_template("qwen"))


def template(**given):
    same = ("{{content}}",)
    return Template(
        **{"name": "mine", **dict.fromkeys(("user", "assistant", "system", "observation", "function"), same), **given}
    )  # type: ignore[arg-type]


def test_each_turn_is_a_prompt_and_its_answer():
    first, second = turns_of(chat("a", "b", "c", "d", system="s"), CHATML)
    assert first.source == (
        "<|im_start|>system\ns<|im_end|>\n",
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n",
    )
    assert first.target == ("b<|im_end|>\n",)
    assert second.source == ("<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n",)
    assert second.target == ("d<|im_end|>\n",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("default", "System: s<eos>\nHuman: a<eos>\nAssistant:b<eos>\nHuman: c<eos>\nAssistant:d<eos>\n"),
        ("empty", "sabcd"),
        ("llama2", "<bos>[INST] <<SYS>>\ns\n<</SYS>>\n\na [/INST]b<eos><bos>[INST] c [/INST]d<eos>"),
        ("mistral", "<bos>[INST] s\n\na[/INST] b<eos>[INST] c[/INST] d<eos>"),
        (
            "llama3",
            "<bos><|start_header_id|>system<|end_header_id|>\n\ns<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nd<|eot_id|>",
        ),
    ],
)
def test_templates_spell_a_conversation(name, text):
    """Spelled out by hand from the templates' files."""
    assert spelled(turns_of(chat("a", "b", "c", "d", system="s"), SlotRenderer(load_template(name)))) == text


def test_the_system_text_is_the_rows_else_the_runs_else_the_templates():
    own = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    texts = [
        spelled(turns_of(chat("a", "b", system=row), SlotRenderer(load_template("qwen"), RenderRules(default_system=run))))
        for row, run in [("row", "run"), ("", "run"), ("", None), ("", "")]
    ]
    assert ["row<" in t for t in texts] == [True, False, False, False]
    assert ["run<" in t for t in texts] == [False, True, False, False]
    assert [own in t for t in texts] == [False, False, True, False]
    assert "system" not in texts[3]  # an empty default_system switches the template's own off


def test_a_system_text_inside_the_users_turn_is_one_piece_with_it():
    """Llama 2 style: tokens may then span system and question, as the model saw it in its own training."""
    (turn,) = turns_of(chat("a", "b", system="s"), SlotRenderer(load_template("llama2")))
    assert turn.source == (Token(of="bos_token"), "[INST] <<SYS>>\ns\n<</SYS>>\n\na [/INST]")


def test_the_turns_number_counts_prompts_and_text_of_the_user_stays_text():
    numbered = SlotRenderer(template(user=("[{{idx}}] {{content}}",)))
    assert spelled(turns_of(chat("a", "b", "c", "d"), numbered)) == "[0] ab[1] cd"
    assert spelled(turns_of(chat("{{idx}} {{content}}", "b"), numbered)) == "[0] {{idx}} {{content}}b"


def test_a_tool_result_takes_its_own_slot():
    record = (Message("observation", "1"), Message("assistant", "b"))
    assert spelled(CHATML.turns(record, "")).startswith("<|im_start|>tool\n1<|im_end|>\n")


def test_both_answers_of_a_preference_follow_the_whole_conversation():
    chosen, rejected = answers_of(preference("a", "b", "c", chosen="good", rejected="bad", system="s"), CHATML)
    assert chosen.source == rejected.source
    assert spelled([chosen]) == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\ngood<|im_end|>\n"
    )
    assert rejected.target == ("bad<|im_end|>\n",)


def test_a_prompt_ends_where_the_model_goes_on():
    slots = prompt_of(chat("a", "b", "c").messages, "", QWEN)
    whole = turns_of(chat("a", "b", "c", "the answer"), QWEN)
    assert "".join(map(str, slots)) + "the answer<|im_end|>\n" == spelled(whole)


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (ChatRecord(chat("a", "b").messages, tools="[]"), "tools"),
        (ChatRecord((Message("user", "a"), Message("function", "{}"))), "messages"),
    ],
)
def test_rows_with_tools_are_refused_and_not_spelled_wrongly(record, field):
    with pytest.raises(RowFault, match="not encoded yet") as fault:
        turns_of(record, CHATML)
    assert fault.value.field == field
