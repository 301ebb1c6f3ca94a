"""Options that come as NAME=VALUE."""

import pytest

from datakit.options import pairs
from registry.errors import UsageError


def test_pairs_split_at_the_first_equals_sign_and_values_may_be_empty():
    assert pairs(["a=b", "c=d=e", "f="], "--map") == {"a": "b", "c": "d=e", "f": ""}
    assert pairs(None, "--map") == {}


@pytest.mark.parametrize("text", ["a", "=b", " =b", ""])
def test_what_is_no_pair_is_refused_by_flag(text):
    with pytest.raises(UsageError, match=r"--map: .* is not NAME=VALUE"):
        pairs([text], "--map")


def test_a_name_with_two_values_is_refused():
    with pytest.raises(UsageError, match='"a" is given twice: 1 and 2'):
        pairs(["a=1", "a=2"], "--fill")
