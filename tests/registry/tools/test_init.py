"""All tool-call syntaxes: as LLaMA-Factory writes and reads them, and each reads back what it writes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import UsageError
from registry.tools import TOOL_FORMATS, tool_format_named
from registry.tools.calls import Call, ToolFault, ToolRules, dumps
from tests.conftest import SHARED, needs_shared

STRICT = ToolRules(strict=True, date="20 Nov 2026")
RIGHT = ToolRules()
TAGGED = ("glm4_moe", "minimax2", "qwen3_5", "seed_oss")  # text stands between tags, without quotes


def reference():
    """shared/reference/tool_formats.json, made from LLaMA-Factory 0.9.5."""
    return json.loads((SHARED / "reference" / "tool_formats.json").read_text("utf-8"))


@needs_shared
@pytest.mark.parametrize("name", TOOL_FORMATS)
@pytest.mark.parametrize("tools", ["one", "two"])
def test_tools_are_told_as_llamafactory_tells_them(name, tools):
    theirs = reference()
    told = TOOL_FORMATS[name].prompt(theirs[f"tools_{tools}"], STRICT)
    assert told == theirs["formats"][name][f"tools_prompt_{tools}"]


@needs_shared
@pytest.mark.parametrize("name", TOOL_FORMATS)
@pytest.mark.parametrize("kind", ["single", "parallel", "no_arguments"])
def test_calls_are_written_and_read_as_llamafactory_does(name, kind):
    theirs = reference()
    calls = [Call(call["name"], call["arguments"]) for call in theirs["calls"][kind]]
    expected = theirs["formats"][name]["calls"]
    if isinstance(expected[kind], dict):  # it raises there
        with pytest.raises(ToolFault):
            TOOL_FORMATS[name].calls(calls, STRICT)
        return
    text = TOOL_FORMATS[name].calls(calls, STRICT)
    assert text == expected[kind]
    parsed = TOOL_FORMATS[name].parse(text, ())
    assert (text if parsed is None else [[c.name, dumps(c.arguments)] for c in parsed]) == expected[f"{kind}_parsed"]


@needs_shared
def test_there_is_a_syntax_for_each_of_the_reference():
    assert set(TOOL_FORMATS) == set(reference()["formats"])


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
ANY_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(
        ['"', "\\", "</tool_call>", "Action: x\nAction Input: {}", "<|tool_call_end|>", "a, b=1)", "}]", "\n"]
    ),
)
# Syntaxes without quotes cannot say a text that looks like a number, nor one that holds their tags.
UNQUOTED = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=8)


def calls_for(name):
    texts = UNQUOTED if name in (*TAGGED, "gemma4") else ANY_TEXT
    plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts)
    nested = st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
    )
    if name in TAGGED:
        nested = nested.filter(lambda value: not isinstance(value, str) or not is_json(value.strip()))
    call = st.builds(Call, NAMES, st.dictionaries(NAMES, nested, max_size=4))
    return st.lists(call, min_size=1, max_size=1 if name == "glm4" else 3)


@pytest.mark.parametrize("name", TOOL_FORMATS)
@given(data=st.data())
def test_what_a_syntax_writes_it_reads_back(name, data):
    calls = data.draw(calls_for(name))
    text = TOOL_FORMATS[name].calls(calls, RIGHT)
    assert TOOL_FORMATS[name].parse(text, ()) == calls


@pytest.mark.parametrize("name", TAGGED)
@given(text=UNQUOTED)
def test_a_text_that_looks_like_a_number_stays_text_where_the_tool_says_so(name, text):
    tool = {"name": "f", "parameters": {"properties": {"zip": {"type": "string"}}}}
    written = TOOL_FORMATS[name].calls([Call("f", {"zip": text})], RIGHT)
    assert TOOL_FORMATS[name].parse(written, [tool]) == [Call("f", {"zip": text})]
    number = TOOL_FORMATS[name].calls([Call("f", {"zip": "0"})], RIGHT)
    assert TOOL_FORMATS[name].parse(number, ()) == [Call("f", {"zip": 0})]


@pytest.mark.parametrize("name", TOOL_FORMATS)
@given(text=st.text(max_size=40))
def test_text_without_calls_is_none(name, text):
    parsed = TOOL_FORMATS[name].parse(text, ())
    assert parsed is None or all(isinstance(call, Call) for call in parsed)
    assert TOOL_FORMATS[name].parse("It is cold.", ()) is None


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_a_tool_may_come_bare_or_wrapped_and_without_parameters(name):
    bare = {"name": "ping", "description": "d"}
    told = TOOL_FORMATS[name].prompt([bare], RIGHT)
    assert "ping" in told
    if name != "seed_oss":  # it tells of tools just as they come
        assert TOOL_FORMATS[name].prompt([{"type": "function", "function": bare}], RIGHT) == told


def test_an_unknown_syntax_gets_the_nearest_name():
    with pytest.raises(UsageError, match=r'unknown tool format "qwen3\.5"\n  Did you mean "qwen3_5"') as error:
        tool_format_named("qwen3.5")
    assert all(name in str(error.value) for name in TOOL_FORMATS)
