"""Records of one kind as those of another: what each becomes, and the ways that there are none."""

import itertools

import pytest

from registry.errors import RowFault, UsageError
from registry.formats.targets import ROLES, TARGETS, recast
from registry.records import ChatRecord, FeedbackRecord, Message, TextRecord
from tests.conftest import chat, preference

CHAT = chat("a", "b", system="s")
PAIR = preference("a", chosen="b", rejected="c", system="s")
GOOD = FeedbackRecord(CHAT.messages, True, "s")
BAD = FeedbackRecord(chat("a", "c").messages, False, "s")
TEXT = TextRecord("s\n\na\n\nb")


@pytest.mark.parametrize(
    ("kind", "target", "record", "made", "drops"),
    [
        ("chat", "alpaca", CHAT, (CHAT,), ()),
        ("chat", "text", CHAT, (TEXT,), ("tools", ROLES)),
        ("preference", "preference", PAIR, (PAIR,), ()),
        ("preference", "openai", PAIR, (CHAT,), ("rejected",)),
        ("preference", "kto", PAIR, (GOOD, BAD), ()),
        ("preference", "text", PAIR, (TEXT,), ("rejected", "tools", ROLES)),
        ("feedback", "kto", BAD, (BAD,), ()),
        ("feedback", "sharegpt", GOOD, (CHAT,), ("kto_tag",)),
        ("feedback", "text", GOOD, (TEXT,), ("kto_tag", "tools", ROLES)),
        ("text", "text", TEXT, (TEXT,), ()),
    ],
)
def test_a_record_becomes_what_the_target_holds(kind, target, record, made, drops):
    way = recast(kind, target)
    assert way.make(record) == made
    assert way.drops == drops


@pytest.mark.parametrize("target", ["alpaca", "sharegpt", "openai", "text"])
def test_an_answer_judged_bad_is_never_written_where_it_would_be_learnt(target):
    with pytest.raises(RowFault, match="judged bad"):
        recast("feedback", target).make(BAD)


def test_tools_and_calls_are_told_in_a_text_as_they_stand():
    calls = (
        Message("user", "a"),
        Message("function", '{"name":"f"}'),
        Message("observation", "1"),
        Message("assistant", ""),
    )
    assert recast("chat", "text").make(ChatRecord(calls)) == (TextRecord('a\n\n{"name":"f"}\n\n1'),)


NO_WAY = {
    ("text", "chat"): "plain text has no turns",
    ("text", "preference"): "neither a question nor two answers",
    ("text", "feedback"): "neither a question nor an answer that was judged",
    ("chat", "preference"): "have one answer",
    ("chat", "feedback"): "nothing in these rows says whether the answer is good",
    ("feedback", "preference"): "judge one answer each",
}


@pytest.mark.parametrize(("kind", "target"), itertools.product(["text", "chat", "preference", "feedback"], TARGETS))
def test_each_way_is_there_or_refused_with_what_can_be_done(kind, target):
    told = NO_WAY.get((kind, TARGETS[target]))
    if told is None:
        recast(kind, target)
        return
    with pytest.raises(UsageError, match=told) as error:
        recast(kind, target)
    assert error.value.where == f"--to {target}"
    assert error.value.mend
