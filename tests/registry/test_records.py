"""Records cannot be changed once read, and each has the name of its kind."""

from dataclasses import FrozenInstanceError

import pytest

from registry.records import KIND_OF, MODEL_SIDE, USER_SIDE, FeedbackRecord, Message, TextRecord
from tests.conftest import chat, preference


def test_every_record_has_a_kind():
    records = [TextRecord("a"), chat("a", "b"), preference("a", chosen="b", rejected="c")]
    records.append(FeedbackRecord(chat("a", "b").messages, True))
    assert [KIND_OF[type(r)] for r in records] == ["text", "chat", "preference", "feedback"]


def test_records_are_frozen_and_equal_by_value():
    assert chat("a", "b", system="s") == chat("a", "b", system="s")
    assert chat("a", "b") != chat("a", "c")
    with pytest.raises(FrozenInstanceError):
        Message("user", "a").content = "b"  # type: ignore[misc]


def test_each_role_belongs_to_one_side():
    assert set(USER_SIDE) | set(MODEL_SIDE) == {"user", "observation", "assistant", "function"}
    assert not set(USER_SIDE) & set(MODEL_SIDE)
