"""What a message says of its weight: read, refused, and written back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import RowFault
from registry.formats import LAYOUTS, READERS, WRITERS, detect
from registry.formats.weights import weight_of
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord


@pytest.mark.parametrize(
    ("turn", "weight"),
    [
        ({}, 1),
        ({"weight": None, "loss": None}, 1),
        ({"loss": True}, 1),
        ({"loss": False}, 0),
        ({"train": False, "loss": False, "weight": 0}, 0),
        ({"weight": 0}, 0),
        ({"weight": 0.25}, 0.25),
        ({"weight": 3, "train": True}, 3),
    ],
)
def test_a_message_is_trained_as_it_says(turn: dict[str, object], weight: float) -> None:
    assert weight_of(turn, "here") == weight


@pytest.mark.parametrize(
    ("turn", "answers", "told"),
    [
        ({"loss": 0}, True, 'field "here.loss": true or false belongs here, not a number (0)'),
        ({"train": "false"}, True, 'field "here.train": true or false belongs here, not text (false)'),
        ({"weight": "1"}, True, 'field "here.weight": a number of 0 or more belongs here, not text (1)'),
        ({"weight": True}, True, 'field "here.weight": a number of 0 or more belongs here, not a truth value (True)'),
        ({"weight": -0.5}, True, 'field "here.weight": a number of 0 or more belongs here, not a number (-0.5)'),
        ({"weight": math.nan}, True, 'field "here.weight": a number of 0 or more belongs here, not a number (nan)'),
        ({"weight": math.inf}, True, 'field "here.weight": a number of 0 or more belongs here, not a number (inf)'),
        (
            {"weight": 1, "loss": False},
            True,
            'field "here.weight": it says to train the message, and "loss" says not to',
        ),
        ({"loss": True, "train": False}, True, 'field "here.loss": it says to train the message, and "train" says'),
        ({"weight": 1}, False, 'field "here.weight": only the model\'s turns are trained; leave it out, or write 0 or'),
        ({"train": True}, False, 'field "here.train": only the model\'s turns are trained'),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_place(turn: dict[str, object], answers: bool, told: str) -> None:
    with pytest.raises(RowFault) as caught:
        weight_of(turn, "here", answers=answers)
    assert told in str(caught.value)


def test_of_turns_that_are_never_trained_only_that_is_taken() -> None:
    assert weight_of({"weight": 0, "loss": False}, "here", answers=False) == 0
    row = {"conversations": [{"from": "human", "value": "q", "weight": 0}, {"from": "gpt", "value": "a"}]}
    assert READERS["sharegpt"](row, LAYOUTS["sharegpt"]) == ChatRecord(
        (Message("user", "q"), Message("assistant", "a"))
    )


SHAREGPT = {
    "conversations": [
        {"from": "system", "value": "s", "weight": 0},
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "a", "loss": False},
        {"from": "human", "value": "r"},
        {"from": "function_call", "value": "{}", "weight": 0.5},
    ]
}
CALLS = [{"id": "1", "function": {"name": "f", "arguments": "{}"}}, {"id": "2", "function": {"name": "g"}}]
OPENAI = {
    "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": CALLS, "weight": 0},
        {"role": "tool", "content": "1", "tool_call_id": "1", "weight": 0},
        {"role": "tool", "content": "2", "tool_call_id": "2"},
        {"role": "assistant", "content": "a", "weight": 2},
    ]
}


@pytest.mark.parametrize(
    ("formatting", "row", "weights"), [("sharegpt", SHAREGPT, [1, 0, 1, 0.5]), ("openai", OPENAI, [1, 0, 1, 2])]
)
def test_messages_bring_their_weights_and_without_weights_none_is_asked(
    formatting: str, row: dict[str, object], weights: list[float]
) -> None:
    layout = LAYOUTS[formatting]
    record = READERS[formatting](row, layout)
    assert isinstance(record, ChatRecord)
    assert [message.weight for message in record.messages] == weights
    plain = READERS[formatting](row, replace(layout, weights=False))
    assert isinstance(plain, ChatRecord)
    assert plain.messages == tuple(replace(message, weight=1.0) for message in record.messages)


def test_without_weights_even_what_is_none_is_passed_over() -> None:
    row = {
        "messages": [{"role": "user", "content": "q", "train": 7}, {"role": "assistant", "content": "a", "loss": ""}]
    }
    with pytest.raises(RowFault, match=r"messages\[0\]\.train"):
        READERS["openai"](row, LAYOUTS["openai"])
    READERS["openai"](row, replace(LAYOUTS["openai"], weights=False))


def test_a_result_among_several_that_asks_to_be_trained_is_refused_with_its_own_number() -> None:
    row = {"messages": [dict(turn) for turn in OPENAI["messages"]]}
    row["messages"][3]["train"] = True
    with pytest.raises(RowFault) as caught:
        READERS["openai"](row, LAYOUTS["openai"])
    assert caught.value.field == "messages[3].train"


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=3), st.sampled_from(["sharegpt", "openai"]))
def test_what_is_written_is_read_again(weights: list[float], formatting: str) -> None:
    turns = [(Message("user", "q"), Message("assistant", "a", weight)) for weight in weights]
    record = ChatRecord(tuple(message for pair in turns for message in pair))
    row = WRITERS[formatting](record)
    layout = detect(row)
    assert layout is not None
    assert READERS[layout.formatting](row, layout) == record
    said = [turn.get("weight") for turn in next(iter(row.values()))][1::2]
    assert said == [None if weight == 1 else weight for weight in weights]


def test_alpaca_refuses_a_weight_that_it_has_no_place_for() -> None:
    with pytest.raises(RowFault, match=r"alpaca has no place for a turn's weight \(0.5\)"):
        WRITERS["alpaca"](ChatRecord((Message("user", "q"), Message("assistant", "a", 0.5))))


PAIR = {
    "conversations": [{"from": "human", "value": "q"}],
    "chosen": {"from": "gpt", "value": "a", "weight": 1},
    "rejected": {"from": "gpt", "value": "b"},
}


def test_answers_that_are_compared_or_judged_have_no_weight() -> None:
    layout = detect(PAIR)
    assert layout is not None
    assert isinstance(READERS["sharegpt"](PAIR, layout), PreferenceRecord)
    with pytest.raises(RowFault, match='field "rejected": an answer that is compared or judged has no weight'):
        READERS["sharegpt"]({**PAIR, "rejected": {**PAIR["rejected"], "loss": False}}, layout)
    judged = {**SHAREGPT, "kto_tag": True}
    layout = detect(judged)
    assert layout is not None
    with pytest.raises(RowFault, match=r'field "conversations\[4\]": an answer that is compared or judged'):
        READERS["sharegpt"](judged, layout)
    judged["conversations"] = [*SHAREGPT["conversations"][:4], {"from": "gpt", "value": "b"}]
    record = READERS["sharegpt"](judged, layout)
    assert isinstance(record, FeedbackRecord)
    assert [message.weight for message in record.messages] == [1, 0, 1, 1]


@pytest.mark.parametrize("weight", [1e308, 3e38, 1e-46])
def test_a_weight_that_would_make_a_loss_nothing_or_no_number_is_refused(weight):
    with pytest.raises(RowFault, match="or 0, belongs here"):
        weight_of({"weight": weight}, "messages[1]")
