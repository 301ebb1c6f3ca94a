"""Records cannot be changed once read, and each has the name of its kind."""

from dataclasses import FrozenInstanceError

import pytest

from registry.records import MODEL_SIDE, USER_SIDE, Message
from tests.conftest import chat


def test_records_are_frozen_and_equal_by_value():
    assert chat("a", "b", system="s") == chat("a", "b", system="s")
    assert chat("a", "b") != chat("a", "c")
    with pytest.raises(FrozenInstanceError):
        Message("user", "a").content = "b"  # type: ignore[misc]


def test_each_role_belongs_to_one_side():
    assert set(USER_SIDE) | set(MODEL_SIDE) == {"user", "observation", "assistant", "function"}
    assert not set(USER_SIDE) & set(MODEL_SIDE)
