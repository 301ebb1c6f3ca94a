"""Tokens by role add up to all tokens, and each is counted under who speaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.stats.lengths import totals
from datakit.stats.roles import opening_of
from registry.own_template import OwnTemplate
from registry.records import ChatRecord, FeedbackRecord, Message
from tests.conftest import chat, preference
from tests.datakit.stats.conftest import measured, renderer_of

TEXT = st.text(max_size=20)
CHATS = st.lists(
    st.tuples(st.integers(1, 3).flatmap(lambda n: st.lists(TEXT, min_size=2 * n, max_size=2 * n)), TEXT),
    min_size=1, max_size=8,
)  # fmt: skip
TEMPLATES = st.sampled_from(["chatml", "qwen", "empty", "llama2", "llama3", "ends once"])


@given(CHATS, TEMPLATES)
def test_roles_add_up_to_all_tokens_and_to_all_trained_ones(rows, template):
    found = measured([chat(*texts, system=system) for texts, system in rows], template=template)
    whole = totals(found.lengths)
    assert sum(counts["tokens"] for counts in found.roles.values()) == whole.num_tokens
    assert sum(counts["trained"] for counts in found.roles.values()) == whole.num_trained


def test_the_system_text_is_counted_with_its_markers_and_apart_from_the_user():
    found = measured([chat("hi", "yo", system="be brief"), chat("hi", "yo")], template="chatml")
    opening = len("system\nbe brief\n") + 2  # two markers, one id each
    assert found.roles["system"] == {"tokens": opening, "trained": 0}
    assert found.roles["user"] == {"tokens": 2 * (len("user\nhi\n" + "assistant\n") + 3), "trained": 0}
    assert found.roles["assistant"] == {"tokens": 2 * 4, "trained": 2 * 4}


def test_a_system_text_inside_the_users_turn_counts_as_the_users():
    found = measured([chat("hi", "yo", system="be brief")], template="llama2")
    assert found.roles["system"]["tokens"] == 0


def test_where_a_later_turn_ends_the_answer_before_it_that_place_is_the_users_and_trained():
    found = measured([chat("a", "b", "c", "d")], template="ends once")
    assert found.roles["user"] == {"tokens": 2, "trained": 1}
    assert found.roles["assistant"] == {"tokens": 3, "trained": 3}  # both answers and the one end


def test_what_tools_say_is_told_apart_from_the_user():
    messages = (Message("user", "hi"), Message("assistant", "a"), Message("observation", "tool!"), Message("assistant", "b"))  # fmt: skip
    found = measured([ChatRecord(messages)], template="empty")
    assert found.roles["tool"] == {"tokens": 5, "trained": 0}
    assert found.roles["user"] == {"tokens": 2, "trained": 0}


def test_of_preferences_prompt_chosen_and_rejected_are_counted_and_the_prompt_twice():
    found = measured([preference("pp", chosen="ccc", rejected="r")], template="empty", stage="dpo")
    assert found.roles == {
        "prompt": {"tokens": 4, "trained": 0},
        "chosen": {"tokens": 3, "trained": 3},
        "rejected": {"tokens": 1, "trained": 1},
    }


def test_of_judged_answers_prompt_and_answer_are_counted_and_how_they_were_judged():
    rows = [FeedbackRecord(chat("pp", "aaa").messages, desirable=judged) for judged in (True, True, False)]
    found = measured(rows, template="empty", stage="kto")
    assert found.roles == {"prompt": {"tokens": 6, "trained": 0}, "answer": {"tokens": 9, "trained": 9}}
    assert found.judged == {"desirable": 2, "undesirable": 1}


OWN = OwnTemplate(
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    ("renderer", "system", "opening"),
    [
        (renderer_of("chatml"), "s", ("<|im_start|>system\ns<|im_end|>\n",)),
        (renderer_of("chatml"), "", ("",)),
        (renderer_of("llama2"), "s", ()),
        (OWN, "be brief", ("<system>be brief</>",)),
        (OWN, "", ("",)),
    ],
)
def test_the_opening_is_what_stands_before_the_first_question_and_no_later_one(renderer, system, opening):
    assert opening_of(system, "", renderer) == opening
