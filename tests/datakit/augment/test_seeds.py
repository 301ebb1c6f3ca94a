"""Seeds as templates see them, and rows built from them."""

from __future__ import annotations

import pytest

from datakit.augment.failures import CallFailed
from datakit.augment.rollout import Seed
from datakit.augment.seeds import (
    content_key,
    conversation,
    from_dialogue,
    is_answered,
    seed_value,
    texts_of,
    unanswered,
    values_of,
    with_answer,
    with_first_question,
    with_texts,
)
from datakit.augment.shapes import Dialogue, Turn
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord, TextRecord


def chat(*texts: str, system: str = "", tools: str = "") -> ChatRecord:
    roles = ("user", "assistant")
    return ChatRecord(tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)), system, tools)


CALLS = ChatRecord(
    (
        Message("user", "weather?"),
        Message("function", '{"name": "w", "arguments": {}}'),
        Message("observation", "rain"),
        Message("assistant", "It rains."),
    ),
    "Be brief.",
    '[{"name": "w"}]',
)


def test_a_pair_as_a_template_sees_it():
    assert seed_value(chat("q", "a", system="s")) == {
        "system": "s",
        "turns": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "question": "q",
        "answer": "a",
        "text": "",
        "tools": "",
        "is_single": True,
    }


def test_of_several_turns_question_and_answer_are_the_last():
    seen = seed_value(chat("q", "a", "q2", "a2"))
    assert (seen["question"], seen["answer"], seen["is_single"]) == ("q2", "a2", False)


def test_calls_of_tools_keep_their_roles_and_the_tools_come_along():
    seen = seed_value(CALLS)
    assert [turn["role"] for turn in seen["turns"]] == ["user", "function", "observation", "assistant"]
    assert (seen["question"], seen["answer"], seen["tools"]) == ("weather?", "It rains.", '[{"name": "w"}]')
    assert seed_value(ChatRecord(CALLS.messages[:2]))["answer"] == ""


def test_a_document_is_its_text_and_has_all_other_parts_empty():
    assert seed_value(TextRecord("t")) == {**seed_value(ChatRecord(())), "text": "t"}


def test_a_seed_gives_itself_a_pool_gives_its_seeds_and_nothing_gives_nothing():
    one, other = (Seed(i, "f", i, chat(f"q{i}", "a")) for i in range(2))
    assert values_of(one)["seed"]["question"] == "q0"
    assert [seen["question"] for seen in values_of(Seed(0, "f", 0, None, pool=(one, other)))["pool"]] == ["q0", "q1"]
    assert values_of(Seed(0, "", 0, None)) == {}


def test_preference_and_judged_rows_are_their_conversation():
    prompt = (Message("user", "q"),)
    good, bad = Message("assistant", "good"), Message("assistant", "bad")
    assert conversation(PreferenceRecord(prompt, good, bad, "s")) == chat("q", "good", system="s")
    assert conversation(FeedbackRecord((*prompt, good), True)) == chat("q", "good")
    with pytest.raises(CallFailed, match="this row is a document"):
        conversation(TextRecord("t"))


def test_an_answer_is_added_or_put_in_place_of_the_last():
    assert (
        with_answer(chat("q"), "a")
        == with_answer(chat("q", ""), "a")
        == with_answer(chat("q", "b"), "a")
        == chat("q", "a")
    )
    assert unanswered(chat("q", "a", "q2", "a2")) == chat("q", "a", "q2")
    assert [is_answered(one) for one in (chat("q", "a"), chat("q", " \n"), chat("q"), CALLS)] == [
        True,
        False,
        False,
        True,
    ]


def test_another_first_question_keeps_everything_after_it():
    assert with_first_question(chat("q", "a", "q2", "a2", system="s", tools="[]"), "new") == chat(
        "new", "a", "q2", "a2", system="s", tools="[]"
    )


def test_a_written_conversation_stands_under_the_seeds_system_prompt_and_keeps_its_tools():
    turns = (Turn("user", "q"), Turn("assistant", "a"))
    assert from_dialogue(Dialogue(turns), CALLS) == chat("q", "a", system="Be brief.", tools='[{"name": "w"}]')
    assert from_dialogue(Dialogue(turns, "own"), CALLS).system == "own"
    assert from_dialogue(Dialogue(turns), TextRecord("t")) == from_dialogue(Dialogue(turns), None) == chat("q", "a")


def test_texts_for_people_are_replaced_and_calls_of_tools_are_not():
    assert texts_of(CALLS) == ["Be brief.", "weather?", "It rains."]
    new = with_texts(CALLS, ["Kurz.", "Wetter?", "Es regnet."])
    assert isinstance(new, ChatRecord)
    assert (new.system, [message.content for message in new.messages], new.tools) == (
        "Kurz.", ["Wetter?", '{"name": "w", "arguments": {}}', "rain", "Es regnet."], CALLS.tools,
    )  # fmt: skip
    assert with_texts(chat("q", "", "r", "b"), ["Q", "R", "B"]) == chat("Q", "", "R", "B")
    assert with_texts(TextRecord("t"), ["T"]) == TextRecord("T")
    with pytest.raises(ValueError, match="1 texts for 3"):
        with_texts(CALLS, ["x"])


def test_the_key_of_a_row_is_what_it_says():
    assert content_key(chat("q", "a")) == content_key(chat("q", "a"))
    assert (
        len(
            {
                content_key(one)
                for one in (chat("q", "a"), chat("q", "a", system="s"), chat("a", "q"), TextRecord("q"), None)
            }
        )
        == 5
    )
    assert 0 <= content_key(None) < 2**64
    assert content_key(chat("q", "a", system="s")) == 6171392948331099911  # as of when turns had no weight yet
    weighed = ChatRecord((Message("user", "q"), Message("assistant", "a", 0.5)), "s")
    assert content_key(weighed) != content_key(chat("q", "a", system="s"))


def test_replaced_texts_keep_their_weight():
    record = ChatRecord((Message("user", "q"), Message("assistant", "a", 0.0)))
    assert with_texts(record, ["Q", "A"]) == ChatRecord((Message("user", "Q"), Message("assistant", "A", 0.0)))
