"""Tools and calls as rows hold them: JSON, with thoughts and tags around it."""

import pytest

from registry.tools.calls import Call, ToolFault
from registry.tools.read import read_calls, read_tools

THOUGHT, TAGS = ("<think>\n", "\n</think>\n\n"), ("<tool_call>", "</tool_call>")
F = '{"name": "f", "arguments": {"a": 1}}'
G = '{"name": "g", "arguments": {}}'


def read(content, *, strict=False, thought=THOUGHT, tags=TAGS):
    return read_calls(content, thought, tags, strict=strict)


def test_tools_are_a_list_of_objects():
    assert read_tools('[{"name": "f"}]') == [{"name": "f"}]
    assert read_tools("") == read_tools("[]") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes at character 1"),
        ("[{]", "not JSON"),
        (" ", "not JSON"),
        ('{"name": "f"}', "a JSON list of tools belongs here, not an object"),
        ("null", "not null"),
        ("[1]", "tool 0 must be an object, not a number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_tools_that_are_none_are_told(text, reason):
    with pytest.raises(ToolFault, match=reason):
        read_tools(text)


@pytest.mark.parametrize("strict", [False, True])
def test_a_turn_is_one_call_or_a_list_after_its_thought(strict):
    f, g = Call("f", {"a": 1}), Call("g", {})
    assert read(F, strict=strict) == ("", [f])
    assert read(f"[{F}, {G}]", strict=strict) == ("", [f, g])
    thought = "<think>\nhm\n</think>\n\n"
    assert read(thought + F, strict=strict) == (thought, [f])
    assert read(f"{thought}<tool_call>\n{F}\n</tool_call>", strict=strict) == (thought, [f])


def test_several_blocks_keep_their_order_where_llamafactory_takes_the_first_alone():
    text = f"so <tool_call>{F}</tool_call>\n<tool_call>{G}</tool_call>"
    assert read(text) == ("so ", [Call("f", {"a": 1}), Call("g", {})])
    assert read(text, strict=True) == (f"so \n<tool_call>{G}</tool_call>", [Call("f", {"a": 1})])


def test_text_after_the_calls_is_refused_where_llamafactory_moves_it_to_the_front():
    text = f"<tool_call>{F}</tool_call> done"
    with pytest.raises(ToolFault, match="there is text after the first call"):
        read(text)
    assert read(text, strict=True)[0] == " done"


def test_arguments_in_json_text_are_read_where_llamafactory_takes_them_for_text():
    text = '{"name": "f", "arguments": "{\\"a\\": 1}"}'
    assert read(text)[1] == [Call("f", {"a": 1})]
    assert read(text, strict=True)[1] == [Call("f", '{"a": 1}')]
    assert read('{"name": "f", "arguments": ""}')[1] == [Call("f", {})]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("It is cold.", "not JSON: Expecting value at character 0: 'It is cold.'"),
        ("7", "a function call must be an object, not a number"),
        ("[]", "the list of function calls is empty"),
        ('{"arguments": {}}', "a function call needs a name"),
        ('{"name": "f"}', 'the call of "f" has no "arguments"'),
        ('{"name": "f", "parameters": {}}', '"parameters" must be called so'),
        ('{"name": "f", "arguments": "so"}', 'the arguments of "f" are no JSON'),
    ],
)
def test_a_call_that_is_none_is_told(content, reason):
    with pytest.raises(ToolFault, match=reason):
        read(content)


def test_without_words_the_whole_text_is_the_call():
    assert read_calls(F, None, None, strict=True) == ("", [Call("f", {"a": 1})])
    with pytest.raises(ToolFault):
        read_calls(f"<tool_call>{F}</tool_call>", None, None, strict=True)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ('{"required": 7, "properties": {}}', '"required" of tool 0 must be a list of names'),
        ('{"properties": {"a": {"enum": 4}}}', '"enum" of "a" of tool 0 must be a list'),
    ],
)
def test_lists_of_a_schema_that_are_none_are_told(schema, told, wrapped):
    tool = f'{{"name": "f", "parameters": {schema}}}'
    with pytest.raises(ToolFault, match=told):
        read_tools(f'[{{"type": "function", "function": {tool}}}]' if wrapped else f"[{tool}]")
