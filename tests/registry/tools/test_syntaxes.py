"""What is particular to one tool-call syntax or another: literal calls in, literal text out, and back."""

import datetime

import pytest

from registry.tools import default, gemma4, glm4, glm4_moe, lfm2, llama3, minimax1, minimax2, mistral, qwen3_5, seed_oss
from registry.tools.calls import Call, ToolFault, ToolRules

RIGHT, STRICT = ToolRules(), ToolRules(strict=True)
TWO = [Call("f", {"a": "x", "b": 1}), Call("g", {})]


def test_default_lists_arguments_with_their_types_choices_and_items():
    schema = {
        "properties": {
            "a": {"type": "integer", "enum": [1, 2]},
            "b": {"type": "array", "items": {"type": "string"}, "description": "Tags"},
        },
        "required": ["a"],
    }
    told = default.prompt([{"name": "f", "parameters": schema}], RIGHT)
    assert "  - a (integer, required): , should be one of [1, 2]\n" in told
    assert "  - b (array): Tags, where each item should be string\n" in told
    with pytest.raises(ToolFault, match="must be a JSON schema"):
        default.prompt([{"name": "f", "parameters": ["a"]}], RIGHT)


def test_default_reads_calls_in_code_fences_and_after_text():
    assert default.parse('Let me see.\nAction: f\nAction Input: ```{"a": 1}```') == [Call("f", {"a": 1})]
    assert default.parse("Action: f\nAction Input: so") is None


def test_glm4_calls_one_function_at_a_time():
    with pytest.raises(ToolFault, match="one function at a time; this turn calls 2"):
        glm4.calls(TWO, RIGHT)
    assert glm4.parse("12 apples\n5") is None


def test_llama3_names_no_day_unless_one_is_given():
    assert "Today" not in llama3.prompt([], RIGHT)
    assert llama3.prompt([], RIGHT).startswith("Cutting Knowledge Date: December 2023\n\nYou have access")
    assert "2023\nToday Date: 20 Nov 2026\n\nYou" in llama3.prompt([], ToolRules(date="20 Nov 2026"))


def test_llama3_strict_names_the_day_of_the_run():
    """LLaMA-Factory's way: the same rows give other ids on another day."""
    days = {datetime.date.today()}
    told = llama3.prompt([], STRICT)
    days.add(datetime.date.today())
    assert any(f"Today Date: {day.strftime('%d %b %Y')}\n" in told for day in days)


def test_minimax2_calls_stand_in_the_block_that_its_prompt_asks_for():
    inside = '<invoke name="f">\n<parameter name="a">x</parameter>\n<parameter name="b">1</parameter>\n</invoke>\n<invoke name="g">\n</invoke>'
    assert minimax2.calls(TWO, RIGHT) == f"<minimax:tool_call>\n{inside}\n</minimax:tool_call>"
    assert minimax2.calls(TWO, STRICT) == inside
    assert minimax2.parse(inside) is None


def test_glm4_moe_closes_its_tag_and_reads_what_it_writes():
    text = "\n<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>x</arg_value>\n</tool_call>"
    assert glm4_moe.calls([Call("f", {"a": "x"})], RIGHT) == text
    assert glm4_moe.calls([Call("f", {"a": "x"})], STRICT) == text.removesuffix("\n</tool_call>")
    assert glm4_moe.parse("<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>\nx\n</arg_value></tool_call>") == [
        Call("f", {"a": "\nx\n"})
    ]


def test_seed_oss_closes_the_functions_tag_and_reads_it_either_way():
    text = "\n<seed:tool_call>\n<function=f>\n<parameter=a>x</parameter>\n</function>\n</seed:tool_call>"
    assert seed_oss.calls([Call("f", {"a": "x"})], RIGHT) == text
    assert seed_oss.calls([Call("f", {"a": "x"})], STRICT) == text.replace("=f>", "=f")
    assert seed_oss.parse(text) == seed_oss.parse(text.replace("=f>", "=f")) == [Call("f", {"a": "x"})]


def test_lfm2_escapes_quotes_and_reads_python_too():
    call = Call("f", {"a": 'say "hi"'})
    assert lfm2.calls([call], RIGHT) == '<|tool_call_start|>[f(a="say \\"hi\\"")]<|tool_call_end|>'
    assert lfm2.calls([call], STRICT) == '<|tool_call_start|>[f(a="say "hi"")]<|tool_call_end|>'
    python = "<|tool_call_start|>[f(a='x', b=True, c={'d': null}), g()]<|tool_call_end|> and so on"
    assert lfm2.parse(python) == [Call("f", {"a": "x", "b": True, "c": {"d": None}}), Call("g", {})]
    assert lfm2.parse('<|tool_call_start|>[f(from="USD")]<|tool_call_end|>') == [Call("f", {"from": "USD"})]


@pytest.mark.parametrize("inside", ["f(1)", "[f(a=open('x'))]", "[1]", "f.g()", "[", "", "f(a=b)"])
def test_lfm2_runs_nothing_and_takes_nothing_else_for_a_call(inside):
    assert lfm2.parse(f"<|tool_call_start|>{inside}<|tool_call_end|>") is None


def test_gemma4_writes_keys_in_order_and_text_between_marks():
    call = Call("f", {"b": [True, None, 1.5], "a": {"d": "x", "c": ""}})
    text = '<|tool_call>call:f{a:{c:<|"|><|"|>,d:<|"|>x<|"|>},b:[true,null,1.5]}<tool_call|>'
    assert gemma4.calls([call], RIGHT) == text
    assert gemma4.parse(text) == [call]
    for broken in (text[:-1], '<|tool_call>call:f{a:<|"|>x}<tool_call|>', "<|tool_call>call:f{a:so}<tool_call|>"):
        assert gemma4.parse(broken) is None


def test_gemma4_tells_of_a_tools_answer():
    tool = {"name": "f", "description": "d", "response": {"type": "object", "description": "r"}}
    told = 'declaration:f{description:<|"|>d<|"|>,response:{description:<|"|>r<|"|>,type:<|"|>OBJECT<|"|>}}'
    assert gemma4.prompt([tool], RIGHT) == told
    with pytest.raises(ToolFault, match="must be schemas"):
        gemma4.prompt([{"name": "f", "parameters": "x"}], RIGHT)


@pytest.mark.parametrize("syntax", [glm4_moe, minimax2, qwen3_5, seed_oss, lfm2])
def test_syntaxes_with_a_place_for_each_argument_want_an_object(syntax):
    with pytest.raises(ToolFault, match="must be an object"):
        syntax.calls([Call("f", [1])], RIGHT)


def test_qwen3_5_values_may_span_lines_and_hold_tags():
    call = Call("write", {"text": "\n a\n</parameter> b\n", "n": 1})
    assert qwen3_5.parse("So:\n" + qwen3_5.calls([call], RIGHT)) == [call]


def test_json_syntaxes_refuse_half_a_call():
    assert minimax1.parse("<tool_calls>\n{}\n</tool_calls>") is None
    assert minimax1.parse("<tool_calls>\n</tool_calls>") is None
    assert minimax1.parse('<tool_calls>\n{"name": "f"') is None
    assert mistral.parse('[{"name": "f"}]') is None
    assert llama3.parse("{") is None
