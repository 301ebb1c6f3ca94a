"""Formats by name and by the look of a row; whatever a row holds, it becomes a record or a named fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.datasets import OPENAI_TAGS, Layout, Tags
from registry.errors import RowFault, UsageError
from registry.formats import LAYOUTS, READERS, WRITERS, columns, detect, layout_named, undetected
from registry.records import ChatRecord, FeedbackRecord, PreferenceRecord, TextRecord
from tests.conftest import chat

TURNS = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("row", "formatting", "kind"),
    [
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca", "chat"),
        ({"prompt": "a", "completion": "b"}, "alpaca", "chat"),
        ({"prompt": "a", "response": "b", "label": True}, "alpaca", "feedback"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "alpaca", "preference"),
        ({"conversations": TURNS}, "sharegpt", "chat"),
        ({"conversations": TURNS[:1], "chosen": TURNS[1], "rejected": TURNS[1]}, "sharegpt", "preference"),
        ({"conversations": TURNS, "kto_tag": False}, "sharegpt", "feedback"),
        ({"messages": MESSAGES}, "openai", "chat"),
        ({"conversations": MESSAGES}, "openai", "chat"),
        ({"messages": TURNS}, "sharegpt", "chat"),
        ({"messages": MESSAGES[:1], "chosen": MESSAGES[1], "rejected": MESSAGES[1]}, "sharegpt", "preference"),
        ({"text": "a"}, "alpaca", "text"),
    ],
)
def test_a_row_shows_its_format(row, formatting, kind):
    layout = detect(row)
    assert layout is not None
    assert (layout.formatting, layout.kind) == (formatting, kind)
    record = READERS[layout.formatting](row, layout)
    kinds = {"chat": ChatRecord, "feedback": FeedbackRecord, "preference": PreferenceRecord, "text": TextRecord}
    assert type(record) is kinds[kind]


@pytest.mark.parametrize("row", [{}, {"question": "a"}, {"instruction": "a"}, {"messages": "text"}])
def test_a_row_of_no_known_format_shows_none(row):
    assert detect(row) is None


def test_unknown_columns_are_listed_with_the_nearest_mapping():
    error = undetected({"question": "a", "answer": "b", "id": 1}, "a.csv")
    assert str(error) == (
        "a.csv: these columns belong to no known format: question, answer, id\n"
        "  Nearest mapping:  datakit convert … --map instruction=question --map output=answer"
    )
    assert "--map instruction=COLUMN" in str(undetected({"zq": 1}, "a.csv"))


def test_a_format_is_known_by_name():
    assert layout_named("openai") is LAYOUTS["openai"]
    with pytest.raises(UsageError, match=r'unknown format "sharegtp"\n  Known: .*Did you mean "sharegpt"\?'):
        layout_named("sharegtp")


def test_preference_and_kto_come_in_two_shapes_and_the_row_decides():
    pair = {"conversations": TURNS[:1], "chosen": TURNS[1], "rejected": TURNS[1]}
    assert layout_named("preference", pair).formatting == "sharegpt"
    assert layout_named("preference", {"instruction": "a"}).formatting == "alpaca"
    assert layout_named("kto", {"conversations": TURNS, "label": True}).columns.kto_tag == "label"


@pytest.mark.parametrize("target", WRITERS)
@pytest.mark.parametrize("system", ["", "Be kind."])
def test_every_format_can_hold_every_conversation(target, system):
    record = chat("a", "b", "c", "d", system=system)
    row = WRITERS[target](record)
    layout = detect(row)
    assert layout is not None
    assert READERS[layout.formatting](row, layout) == record


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["human", "gpt", "user", "tool"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["from", "value", "role", "content", "tool_calls", "function", "name", "arguments"]), inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip
FIELDS = (
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "conversations",
    "messages",
    "tools",
    "chosen",
    "rejected",
    "kto_tag",
    "text",
)
PAIR = {"chosen": "chosen", "rejected": "rejected"}
EVERY_LAYOUT = [
    *LAYOUTS.values(),
    Layout("sharegpt", columns(messages="conversations", **PAIR), Tags(), ranking=True),
    Layout("openai", columns(messages="messages", **PAIR), OPENAI_TAGS, ranking=True),
    Layout("openai", columns(messages="messages", kto_tag="kto_tag"), OPENAI_TAGS),
]


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING), st.sampled_from(EVERY_LAYOUT))
def test_whatever_a_row_holds_it_is_a_record_or_a_named_fault(row, layout):
    detect(row)
    try:
        found = READERS[layout.formatting](row, layout)
    except RowFault as fault:
        found = fault
    named = isinstance(found, RowFault) and found.field and found.reason
    assert named or isinstance(found, TextRecord | ChatRecord | PreferenceRecord | FeedbackRecord)
