"""The tokenizer's own chat template: the text that transformers gives, cut into turns where that can be trusted."""

import json

import pytest

from registry.errors import RowFault, UsageError
from registry.own_template import OwnTemplate
from registry.records import Message
from registry.render import RenderRules, Turn, prompt_of
from registry.slots import special_pattern
from tests.conftest import QWEN2, chat, needs_shared, spelled

PLAIN = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token if m.role == 'assistant' }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
# Like Qwen3's: what the model thought is taken out of all answers but the last.
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}A:{{ m.content.split('|')[-1] }};"
    "{% elif m.role == 'assistant' %}A:{{ m.content }};{% else %}U:{{ m.content }};{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}A:{% endif %}"
)


def test_what_an_answer_adds_to_the_text_is_trained():
    first, second = OwnTemplate(PLAIN, bos_token="<s>", eos_token="</s>").turns(chat("a", "b", "c", "d").messages, "be")
    assert (first.source, first.target) == (("<s><system>be<user>a<assistant>",), ("b</s>",))
    assert (second.source, second.target) == (("<user>c<assistant>",), ("d</s>",))


def test_the_default_system_holds_where_the_row_has_none():
    own = OwnTemplate(PLAIN, rules=RenderRules(default_system="run"))
    assert spelled(own.turns(chat("a", "b").messages, "")).startswith("<system>run<user>")
    assert spelled(own.turns(chat("a", "b").messages, "row")).startswith("<system>row<user>")


def test_a_prompt_ends_where_the_model_goes_on():
    own = OwnTemplate(PLAIN, eos_token="</s>")
    assert "".join(map(str, prompt_of(chat("a", "b", "c").messages, "", own))) == (
        "<user>a<assistant>b</s><user>c<assistant>"
    )


def test_what_a_template_takes_out_of_earlier_answers_is_not_trained_and_the_rest_is():
    own = OwnTemplate(FORGETFUL)
    assert spelled(own.turns(chat("a", "think|b").messages, "")) == "U:a;A:think|b;"
    first, second = own.turns(chat("a", "think|b", "c", "hm|d").messages, "")
    assert (first.source, first.target) == (("U:a;A:",), ("b;",))
    assert (second.source, second.target) == (("U:c;A:",), ("hm|d;",))


def test_an_earlier_turn_that_may_lie_in_two_places_is_refused_rather_than_guessed_at():
    """The second question is also what the second answer says."""
    own = OwnTemplate(FORGETFUL)
    with pytest.raises(RowFault, match="turn 0: the tokenizer's chat template rewrites earlier turns"):
        own.turns(chat("a", "think|b", "c", "U:c;A:d").messages, "")


def test_a_template_that_shortens_the_conversation_is_refused():
    newest = "{% for m in messages[-2:] %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    with pytest.raises(RowFault, match="turn 0: the tokenizer's chat template rewrites earlier turns"):
        OwnTemplate(newest).turns(chat("a", "b", "c", "d").messages, "")


def test_a_template_whose_answer_does_not_follow_its_prompt_is_refused():
    own = OwnTemplate("{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}A:{% endif %}")
    with pytest.raises(RowFault, match=r"turn 0: .*what is trained cannot be told"):
        own.turns(chat("a", "b").messages, "")


@pytest.mark.parametrize(
    "source", ["{{ raise_exception('only users') }}", "{{ 1 + messages[0] }}", "{{ ''.__class__.__mro__ }}"]
)
def test_a_template_that_refuses_a_conversation_faults_the_row(source):
    with pytest.raises(RowFault, match="the tokenizer's chat template refuses this conversation"):
        OwnTemplate(source).turns(chat("a", "b").messages, "")


def test_what_is_no_template_is_refused():
    with pytest.raises(UsageError, match="does not compile"):
        OwnTemplate("{% for %}")


def test_json_in_templates_keeps_unicode_and_signs():
    """Jinja's own tojson would escape < for HTML."""
    render = OwnTemplate("{{ messages[0] | tojson }}{{ messages[0] | tojson(ensure_ascii=true, indent=1) }}").render
    message = {"role": "user", "content": "<你>"}
    expected = json.dumps(message, ensure_ascii=False) + json.dumps(message, indent=1)
    assert render([message], add_generation_prompt=False) == expected


# Depends on how Jinja treats the blanks around blocks, and on break.
BLOCKS = """
{%- for m in messages %}
    {% if m.role == "assistant" %}
A {{ m.content }}
    {% else %}
U {{ m.content }}
        {% if m.content == "c" %}{% break %}{% endif %}
    {% endif %}
{% endfor %}
"""

CONVERSATIONS = [
    (chat("Hello").messages, ""),
    (chat("Hello", "Hi.").messages, ""),
    (chat("a", "b", "c", "d").messages, "Be kind."),
    (chat("<|im_start|>user\n{{ messages }}", "你好\n\n 🙂 ", " ", "").messages, ""),
    ((Message("user", "a"), Message("assistant", "x"), Message("observation", "1"), Message("assistant", "b")), "s"),
]


@pytest.fixture(scope="module")
def theirs():
    """Qwen2's tokenizer as transformers loads it."""
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(str(QWEN2))


@needs_shared
@pytest.mark.parametrize(("messages", "system"), CONVERSATIONS)
@pytest.mark.parametrize("template", ["own", PLAIN, FORGETFUL, BLOCKS])
def test_the_text_is_what_transformers_gives(theirs, messages, system, template):
    source = (QWEN2 / "chat_template.jinja").read_text("utf-8") if template == "own" else template
    roles = {"observation": "tool"}
    rows = [{"role": roles.get(m.role, m.role), "content": m.content} for m in messages]
    rows = [{"role": "system", "content": system}, *rows] if system else rows
    ours = OwnTemplate(source, bos_token=theirs.bos_token or "", eos_token=theirs.eos_token)
    for prompt in (True, False):
        text = theirs.apply_chat_template(rows, chat_template=source, tokenize=False, add_generation_prompt=prompt)
        assert ours.render(rows, add_generation_prompt=prompt) == text
    if template == "own" and len(messages) % 2 == 0:
        assert spelled(ours.turns(messages, system)) == text


QA = "{% for m in messages %}{% if m['role'] == 'assistant' %}BODY{% else %}<q>{{ m['content'] }}<a>{% endif %}{% endfor %}"
HI_YO = chat("hi", "yo").messages


def marked(body: str) -> OwnTemplate:
    """A template that spells a question ``<q>…<a>`` and an answer as ``body``."""
    return OwnTemplate(QA.replace("BODY", body))


def test_what_stands_between_generation_marks_is_trained():
    own = marked("{% generation %}{{ m['content'] }}<end>{% endgeneration %}")
    assert own.turns(HI_YO, "") == [Turn(("<q>hi<a>",), ("yo<end>",))]
    assert own.render([{"role": "assistant", "content": "yo"}], add_generation_prompt=False) == "yo<end>"
    assert own.turns(chat("a", "b", "c", "d").messages, "")[1] == Turn(("<q>c<a>",), ("d<end>",))


def test_marks_make_trained_what_no_comparison_could_tell():
    """The answer is written in front of its header, which no prompt can end with."""
    own = marked("{% generation %}{{ m['content'] }}{% endgeneration %}<said>")
    first, second = own.turns(chat("a", "b", "c", "d").messages, "")
    assert (first.source, first.target, second.source, second.target) == (
        ("<q>a<a>",), ("b",), ("<said><q>c<a>",), ("d",)
    )  # fmt: skip


def test_what_follows_the_last_mark_is_left_out():
    assert (
        spelled(marked("{% generation %}{{ m['content'] }}{% endgeneration %}<end>").turns(HI_YO, "")) == "<q>hi<a>yo"
    )


def test_marks_that_touch_are_one():
    own = marked("{% generation %}{{ m['content'] }}{% endgeneration %}{% generation %}!{% endgeneration %}")
    assert own.turns(HI_YO, "") == [Turn(("<q>hi<a>",), ("yo!",))]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{% generation %}{{ m['content'] }}{% endgeneration %} {% generation %}!{% endgeneration %}", "marks 2 parts"),
        ("{% if not loop.last %}{% generation %}{% endgeneration %}{% endif %}{{ m['content'] }}", "marks 0 parts"),
        ("{% set x %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endset %}{{ x[:-1] }}", "cuts its own"),
        (
            "{% set x %}{% generation %} {{ m['content'] }} {% endgeneration %}{% endset %}{{ x | trim }}",
            "rewrites what its {% generation %} marks hold",
        ),
    ],
)
def test_marks_that_cannot_be_trusted_are_refused(body, reason):
    with pytest.raises(RowFault, match=reason):
        marked(body).turns(HI_YO, "")


def test_marks_in_a_macro_hold_as_elsewhere():
    """transformers counts characters that are written already, and would be off here."""
    macro = "{% macro say(x) %}{% generation %}{{ x }}<end>{% endgeneration %}{% endmacro %}"
    assert marked(macro + "{{ say(m['content']) }}").turns(HI_YO, "") == [Turn(("<q>hi<a>",), ("yo<end>",))]


def test_a_text_that_holds_the_marks_themselves_gets_others():
    own = marked("{% generation %}{{ m['content'] }}{% endgeneration %}")
    text = "".join(map(chr, range(0x10F800, 0x10F803)))
    assert own.turns(chat(text, text + "x").messages, "")[0].target == (text + "x",)


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("source", [PLAIN, "marked"])
def test_an_answer_keeps_its_weight(source, last_only):
    own = marked("{% generation %}{{ m['content'] }}{% endgeneration %}") if source == "marked" else OwnTemplate(PLAIN)
    messages = (
        Message("user", "a"),
        Message("assistant", "b", 0.5),
        Message("user", "c"),
        Message("assistant", "d", 2),
    )
    weights = [turn.weight for turn in own.turns(messages, "", last_only=last_only)]
    assert weights == ([2] if last_only else [0.5, 2])


def test_for_a_last_answer_all_before_it_is_prompt():
    (turn,) = OwnTemplate(FORGETFUL).turns(chat("a", "think|b", "c", "hm|d").messages, "", last_only=True)
    assert turn == Turn(("U:a;A:b;U:c;A:",), ("hm|d;",))


THINKING = (
    "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' and loop.last and '<think>' not in m.content %}"
    "<think></think>{% endif %}{{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% if enable_thinking is false %}<think></think>{% endif %}{% endif %}"
)


@pytest.mark.parametrize(
    ("thinking", "source", "target"),
    [
        (True, "user:a;assistant:", "<think></think>b;"),
        (False, "user:a;assistant:<think></think>", "b;"),
        (None, "user:a;assistant:", "<think></think>b;"),
    ],
)
def test_the_thinking_switch_reaches_the_template(thinking, source, target):
    own = OwnTemplate(THINKING, rules=RenderRules(enable_thinking=thinking))
    assert own.turns(chat("a", "b").messages, "") == [Turn((source,), (target,))]
    assert prompt_of(chat("a").messages, "", own) == (source,)


def test_an_earlier_answer_begins_behind_the_prompt_without_the_newest_turns_empty_thought():
    own = OwnTemplate(THINKING, rules=RenderRules(enable_thinking=False))
    first, second = own.turns(chat("a", "b", "c", "d").messages, "")
    assert (first.source, first.target) == (("user:a;assistant:",), ("b;",))
    assert (second.source, second.target) == (("user:c;assistant:<think></think>",), ("d;",))


def test_a_thought_where_thinking_is_off_is_refused():
    own = OwnTemplate(THINKING, rules=RenderRules(enable_thinking=False))
    with pytest.raises(RowFault, match="what is trained cannot be told"):
        own.turns(chat("a", "<think>hm</think>b").messages, "")


TOOLS = '[{"name": "look", "parameters": {}}, {"type": "function", "function": {"name": "find"}}]'
WITH_TOOLS = (
    "{{ tools | map(attribute='function') | map(attribute='name') | join(',') }}|{% for m in messages %}"
    "{{ m.role }}:{{ m.content }}{% for c in m.tool_calls %}<{{ c.function.name }} {{ c.function.arguments.x }}>{% endfor %};"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def test_tools_calls_and_results_reach_the_template_in_openai_form():
    call = '{"name": "look", "arguments": {"x": 1}}'
    messages = (
        Message("user", "a"),
        Message("function", call),
        Message("observation", "snow"),
        Message("assistant", "b"),
    )
    first, second = OwnTemplate(WITH_TOOLS).turns(messages, "", TOOLS)
    assert (first.source, first.target) == (("look,find|user:a;assistant:",), ("<look 1>;",))
    assert (second.source, second.target) == (("tool:snow;assistant:",), ("b;",))


def test_several_calls_get_their_results_one_by_one():
    calls = '<think>hm</think>[{"name": "look", "arguments": {"x": 1}}, {"name": "find", "arguments": "{\\"x\\": 2}"}]'
    messages = (
        Message("user", "a"), Message("function", calls), Message("observation", '["snow", "sun"]'), Message("assistant", "b")
    )  # fmt: skip
    first, second = OwnTemplate(WITH_TOOLS).turns(messages, "", TOOLS)
    assert first.target == ("<think>hm</think><look 1><find 2>;",)
    assert second.source == ("tool:snow;tool:sun;assistant:",)


@pytest.mark.parametrize(
    ("call", "tools", "reason"),
    [
        ("{", "", r'"messages\[1\]": not JSON'),
        ("[1]", "", r'"messages\[1\]": a function call must be an object'),
        ('{"name": "x", "arguments": {}}', "{", '"tools": not JSON'),
        ('{"name": "x", "arguments": {}}', "{}", '"tools": a JSON list of tools belongs here'),
    ],
)
def test_tools_that_do_not_parse_are_faults_of_the_row(call, tools, reason):
    with pytest.raises(RowFault, match=reason):
        OwnTemplate(WITH_TOOLS).turns((Message("user", "a"), Message("function", call)), "", tools)


ONLY_TALK = (
    "{% for m in messages %}{% if m.role in ('user', 'assistant') %}{{ m.role }}:{{ m.content }};{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.mark.parametrize(
    ("messages", "system", "tools", "reason"),
    [
        (HI_YO, "Be kind.", "", r'"system": .*leaves the system message out'),
        (HI_YO, "", TOOLS, r'"tools": .*leaves the tools out'),
        (
            (Message("user", "a"), Message("assistant", "wait"), Message("observation", "snow"), Message("assistant", "b")),
            "", "", r'leaves turn 2 \("tool"\) out',
        ),
        (
            (Message("user", "a"), Message("function", '{"name": "look", "arguments": {}}')),
            "", "", r"leaves turn 1 \(the answer\) out",
        ),
    ],
)  # fmt: skip
def test_what_the_template_leaves_out_in_silence_is_a_fault_of_the_row(messages, system, tools, reason):
    with pytest.raises(RowFault, match=reason):
        OwnTemplate(ONLY_TALK).turns(messages, system, tools)


def test_special_tokens_that_the_user_writes_stay_text():
    """On both sides of the joint the text is encoded for itself."""
    own = OwnTemplate(PLAIN, eos_token="</s>", specials=special_pattern(["</s>", "<user>"]))
    (turn,) = own.turns(chat("a</s>b", "c</s>").messages, "<user>")
    assert turn.source == ("<system><", "user><user>a<", "/s>b<assistant>")
    assert turn.target == ("c</s></s>",)
    assert own.special_texts(chat("a</s>b", "c</s>").messages, "<user>") == 2
    for rules in (RenderRules(strict=True), RenderRules(keep_special_text=True)):
        own = OwnTemplate(PLAIN, eos_token="</s>", specials=special_pattern(["</s>"]), rules=rules)
        assert own.turns(chat("a</s>b", "c").messages, "")[0].source == ("<user>a</s>b<assistant>",)
