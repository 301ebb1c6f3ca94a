"""Thoughts in a conversation: which stay, which go, and where an empty one is written (LLaMA-Factory 0.9.5's rules)."""

from dataclasses import replace

import pytest

from registry.templates import load_template
from registry.thoughts import empty_thought, has_thought, settle_thoughts, without_thought
from tests.conftest import chat

QWEN3 = load_template("qwen3")
WORDS = QWEN3.thought_words
A, B = "<think>\na\n</think>\n\nA", "<think>\nb\n</think>\n\nB"


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        (A, "A"),
        (f"x{A}{B}", "xAB"),
        ("\n\nno thought", "no thought"),
        ("<think>\nopen", "<think>\nopen"),
        ("<think>a</think>A", "<think>a</think>A"),  # these are other words
    ],
)
def test_a_thought_goes_with_its_words_and_the_line_breaks_before_the_rest(content, rest):
    assert without_thought(content, WORDS) == rest


def test_either_word_makes_a_thought_whatever_blanks_it_lacks():
    assert [has_thought(c, WORDS) for c in (A, "a</think>", "<think>", "thinking")] == [True, True, True, False]


def test_an_empty_thought_is_both_words_or_the_closing_one():
    assert empty_thought(QWEN3) == "<think>\n\n</think>\n\n"
    assert empty_thought(load_template("glm4_7")) == "</think>"
    assert empty_thought(load_template("deepseekr1")) == "<think>\n\n</think>\n\n"


def settled(*answers, enable=True, preserve=False, discard=False, last_only=False):
    """The answers after settling, and which get an empty thought."""
    messages = chat(*(text for answer in answers for text in ("q", answer))).messages
    found, empty = settle_thoughts(
        messages, QWEN3, enable=enable, preserve=preserve, discard=discard, last_only=last_only
    )
    assert [m.content for m in found[::2]] == ["q"] * len(answers)
    return [m.content for m in found[1::2]], empty


def test_a_conversation_that_is_trained_as_a_whole_keeps_its_thoughts():
    assert settled(A, "plain", B) == ([A, "plain", B], [False, True, False])
    assert settled(A, B, enable=None) == ([A, B], [False, False])


def test_without_thinking_all_thoughts_go_and_all_answers_get_an_empty_one():
    assert settled(A, B, enable=False) == (["A", "B"], [True, True])


def test_discarding_takes_the_earlier_thoughts_and_only_the_last_answer_gets_an_empty_one():
    assert settled(A, B, discard=True) == (["A", B], [False, False])
    assert settled(A, "plain", discard=True) == (["A", "plain"], [False, True])
    assert settled("plain", B, discard=True, preserve=True) == (["plain", B], [True, False])
    assert settled(A, B, discard=True, enable=False) == (["A", "B"], [False, True])


def test_a_conversation_for_its_last_answer_loses_the_earlier_thoughts():
    assert settled(A, B, last_only=True) == (["A", B], [False, False])
    assert settled(A, "plain", last_only=True) == (["A", "plain"], [False, True])
    assert settled(A, B, last_only=True, enable=False) == (["A", "B"], [False, True])
    assert settled(A, B, "plain", last_only=True, preserve=True) == ([A, B, "plain"], [False, False, True])
    assert settled(A, B, last_only=True, preserve=True, enable=False) == ([A, "B"], [False, True])


def test_messages_keep_their_weight():
    messages = [replace(m, weight=0.5) for m in chat("q", A).messages]
    found, _ = settle_thoughts(messages, QWEN3, enable=False, preserve=False, discard=False, last_only=False)
    assert [m.weight for m in found] == [0.5, 0.5]
    assert messages[1].content == A  # the record itself is left alone
