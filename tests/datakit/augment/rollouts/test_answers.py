"""Answers to rows: given where they are missing, anew, behind their reasoning, in another language."""

from __future__ import annotations

from dataclasses import replace

from datakit.augment.rollouts import ROLLOUTS, answers
from datakit.recipes.recipe import Recipe, load_recipe
from registry.records import ChatRecord, Message, TextRecord
from tests.datakit.augment.rollouts.hand import chat, drive, making, seed_of, texts

CALL = ChatRecord((Message("user", "weather?"), Message("function", '{"name": "w", "arguments": {}}')), "", "[]")


def test_a_row_without_an_answer_gets_one():
    for record in (chat("q", "", system="s"), chat("q", " \n", system="s"), chat("q", system="s")):
        seed = seed_of(record)
        make = making("answer", seed)
        drive(ROLLOUTS["answer"](seed, make), ["  a\n"])
        assert [made.record for made in make.made] == [chat("q", "a", system="s")]


def test_a_row_with_an_answer_passes_without_a_call():
    for record in (chat("q", "a"), CALL):
        seed = seed_of(record)
        make = making("answer", seed)
        assert drive(ROLLOUTS["answer"](seed, make), []).calls == []
        assert [(made.record, made.replies) for made in make.made] == [(record, ())]


def test_an_unanswered_row_asks_the_same_with_and_without_an_empty_last_turn():
    said = []
    for record in (chat("q", ""), chat("q")):
        seed = seed_of(record)
        (call,) = drive(ROLLOUTS["answer"](seed, making("answer", seed)), ["a"]).calls
        said.append(call.prompt.render(call.values))
    assert said[0] == said[1]


def test_think_puts_the_reasoning_in_front_of_the_answer():
    seed = seed_of(chat("q", "a", "2 + 2?", "four", system="s"))
    make = making("think", seed)
    drive(ROLLOUTS["think"](seed, make), ["<think>\nTwo and two.\n</think>\n\n4"])
    assert [made.record for made in make.made] == [
        chat("q", "a", "2 + 2?", "<think>\nTwo and two.\n</think>\n\n4", system="s")
    ]


def test_the_call_of_a_tool_is_no_answer_to_be_given_anew():
    seed = seed_of(CALL)
    log = drive(ROLLOUTS["think"](seed, making("think", seed)), [])
    assert log.failure is not None
    assert log.failure.code == "no answer"


def test_answers_anew_are_as_many_as_wanted_beside_the_seed():
    prompt = replace(load_recipe("answer").prompt, makes="new")
    seed = seed_of(chat("q", "old"))
    make = making(Recipe("own", prompt), seed, n=2)
    log = drive(answers.anew(seed, make), ["one", "two"])
    assert [made.record for made in make.made] == [chat("q", "one"), chat("q", "two")]
    assert [call.sample for call in log.calls] == [0, 1]


def test_translate_asks_for_all_texts_of_a_row_at_once_and_for_as_many_back():
    seed = seed_of(chat("q", "a", system="s", tools="[]"))
    make = making("translate", seed, to="German")
    log = drive(ROLLOUTS["translate"](seed, make), [texts("S", "Q", "A")])
    assert [(call.values["texts"], call.expects) for call in log.calls] == [(["s", "q", "a"], 3)]
    assert [made.record for made in make.made] == [chat("Q", "A", system="S", tools="[]")]


def test_a_row_with_nothing_to_translate_passes():
    seed = seed_of(chat("", ""))
    make = making("translate", seed, to="German")
    assert drive(ROLLOUTS["translate"](seed, make), []).calls == []
    assert [made.record for made in make.made] == [chat("", "")]


def test_documents_are_made_one_a_call():
    seed = seed_of(TextRecord("old"))
    make = making("answer", seed, n=1)
    rollout = answers.documents(seed, make)
    assert [call.values["seed"]["text"] for call in next(rollout)] == ["old"]
