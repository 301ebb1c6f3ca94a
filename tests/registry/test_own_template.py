"""The tokenizer's own chat template: the text that transformers gives, cut into turns where that can be trusted."""

import json

import pytest

from registry.errors import RowFault, UsageError
from registry.own_template import OwnTemplate
from registry.records import Message
from registry.render import RenderRules, Turn, prompt_of
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


def test_a_template_that_rewrites_earlier_turns_is_refused_rather_than_guessed_at():
    own = OwnTemplate(FORGETFUL)
    assert spelled(own.turns(chat("a", "think|b").messages, "")) == "U:a;A:think|b;"
    assert spelled(own.turns(chat("a", "b", "c", "d").messages, "")) == "U:a;A:b;U:c;A:d;"  # nothing to forget
    with pytest.raises(RowFault, match="turn 2: the tokenizer's chat template rewrites earlier turns"):
        own.turns(chat("a", "think|b", "c", "d").messages, "")


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


def test_generation_marks_spell_nothing():
    source = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] }}<end>{% endgeneration %}"
        "{% else %}<q>{{ m['content'] }}<a>{% endif %}{% endfor %}"
    )
    turns = OwnTemplate(source).turns((Message("user", "hi"), Message("assistant", "yo")), "")
    assert turns == [Turn(("<q>hi<a>",), ("yo<end>",))]
