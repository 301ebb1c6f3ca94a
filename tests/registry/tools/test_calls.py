"""What tool-call syntaxes share: tools with and without their wrapping, JSON in the midst of text, text without quotes."""

import pytest

from registry.tools.calls import (
    Call,
    ToolFault,
    as_text,
    bare,
    calls_in,
    dumps,
    from_text,
    items_of,
    json_at,
    json_between,
    loads,
    name_of,
    wrapped,
)


def test_a_tool_is_wrapped_and_unwrapped_once():
    inner, outer = {"name": "f"}, {"type": "function", "function": {"name": "f"}}
    assert (bare(inner), bare(outer), wrapped(inner), wrapped(outer)) == (inner, inner, outer, outer)
    flat = {"type": "function", "name": "f"}
    assert bare(flat) == flat


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: bare({"type": "function", "function": "f"}), "must be an object"),
        (lambda: name_of({}), "a tool has no name"),
        (lambda: items_of(Call("f", [1])), 'the arguments of "f" must be an object'),
    ],
)
def test_what_cannot_be_written_is_told(made, reason):
    with pytest.raises(ToolFault, match=reason):
        made()


def test_json_is_written_with_characters_as_they_are():
    assert dumps({"a": "é", "b": [1, None]}) == '{"a": "é", "b": [1, null]}'


def test_text_goes_without_quotes_and_all_else_is_json():
    assert [as_text(v) for v in ("a b", 1, True, None, ["x"])] == ["a b", "1", "true", "null", '["x"]']
    values = [from_text(text, "f", "k", ()) for text in ("a b", "1", " true ", "null", '["x"]')]
    assert values == ["a b", 1, True, None, ["x"]]
    assert [from_text(t, "f", "k", ()) for t in ("NaN", "1 2", "", "[" * 100_000)] == ["NaN", "1 2", "", "[" * 100_000]


def test_one_json_value_is_read_and_no_more():
    assert loads(' {"a": 1}\n') == {"a": 1}
    for text in ("1 2", "NaN", "", "{"):
        with pytest.raises(ValueError, match=r"\w"):
            loads(text)
    assert json_at('x  {"a": "}"} y', 1) == ({"a": "}"}, 13)


def test_calls_are_objects_with_a_name_and_arguments():
    one = {"name": "f", "arguments": {}}
    assert calls_in(one, "arguments") == calls_in([one], "arguments") == [Call("f", {})]
    for value in ([], {}, 1, "f", {"name": "f"}, {"name": 1, "arguments": {}}, [one, {}]):
        assert calls_in(value, "arguments") is None


def test_calls_between_words_may_hold_those_words():
    text = 'so: <c>{"name": "f", "arguments": {"a": "</c>"}}</c> <c>{"name": "g", "arguments": 1}</c>'
    assert json_between(text, "<c>", "</c>") == [Call("f", {"a": "</c>"}), Call("g", 1)]
    for broken in ("<c>{</c>", '<c>{"name": "f"}</c>', '<c>{"name": "f", "arguments": 1}', "none"):
        assert json_between(broken, "<c>", "</c>") is None
