"""Five kinds of chat templates as models carry them: ids and trained tokens are those that transformers gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import RowFault
from registry.own_template import OwnTemplate
from registry.records import Message
from registry.render import RenderRules
from registry.tokenizer import Tokenizer
from tests.conftest import QWEN2, needs_shared

# «…» is what the model says: {% generation %} marks in one spelling of each template, nothing in the other.
CHATML = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n«{{ m.content }}<|im_end|>\n»"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}{% if messages[0].role == 'system' %}{% set told = messages[0].content | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set told = '' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\n{{ told }}<|eot_id|>"
    "{% for m in messages %}<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}<|end_header_id|>\n\n"
    "{% if m.role == 'assistant' %}«{{ m.content | trim }}<|eot_id|>»{% else %}{{ m.content | trim }}<|eot_id|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set told = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}"
    "{% else %}{% set told = '' %}{% endif %}{{ bos_token }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST]{{ (told if loop.first else '') + m.content }}[/INST]"
    "{% else %}«{{ m.content }}{{ eos_token }}»{% endif %}{% endfor %}"
)
# As Qwen3: thoughts stay in the answers since the last question alone, and the last answer has one, if an empty one.
QWEN3 = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% set content = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{% set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') if '</think>' in m.content else '' %}"
    "<|im_start|>assistant\n«{% if loop.index0 > ns.last and (loop.last or thought) %}<think>\n{{ thought }}\n</think>\n\n"
    "{% endif %}{{ content }}<|im_end|>\n»{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# The end of the turn is not the model's, and no prompt is ever written.
MARKED = "{% for m in messages %}{{ m.role }}:\n{% if m.role == 'assistant' %}«{{ m.content }}»{% else %}{{ m.content }}{% endif %}<|endoftext|>{% endfor %}"
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "mistral": MISTRAL, "qwen3": QWEN3}
TOKENS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]", "<s>"]

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<>|[]\x00"), min_size=1, max_size=8).filter(str.strip)
TALKS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4)


def spell(template: str, *, marks: bool) -> str:
    """A template above with generation marks, or without."""
    begin, end = ("{% generation %}", "{% endgeneration %}") if marks else ("", "")
    return template.replace("«", begin).replace("»", end)


def said(pairs: list[tuple[str, str]]) -> list[Message]:
    roles = ("user", "assistant")
    return [Message(role, text) for pair in pairs for role, text in zip(roles, pair, strict=True)]  # type: ignore[arg-type]


def rows_of(messages: list[Message], system: str) -> list[dict[str, Any]]:
    told = [{"role": "system", "content": system}] if system else []
    return [*told, *({"role": m.role, "content": m.content} for m in messages)]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Qwen2's tokenizer with the special tokens that the templates write, as transformers loads it."""
    tokenizer = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(str(QWEN2))
    tokenizer.add_special_tokens({"additional_special_tokens": TOKENS, "bos_token": "<s>"})
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    tokenizer.folder = folder
    return tokenizer


@pytest.fixture(scope="module")
def ours(theirs: Any) -> Tokenizer:
    return Tokenizer(Path(theirs.folder))


def open_own(source: str, tokenizer: Tokenizer, **rules: Any) -> OwnTemplate:
    return OwnTemplate(source, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token, rules=RenderRules(**rules))


def encoded(
    own: OwnTemplate, tokenizer: Tokenizer, messages: list[Message], system: str
) -> tuple[list[int], list[int]]:
    """Ids, and 1 where they are trained."""
    ids: list[int] = []
    mask: list[int] = []
    for turn in own.turns(messages, system):
        for side, trained in ((turn.source, 0), (turn.target, 1)):
            for slot in tokenizer.encode_batch([str(text) for text in side]):
                ids += slot
                mask += [trained] * len(slot)
    return ids, mask


TALK = [("a", "b"), ("How far is it?", "Two miles.\nOr three."), ("And back?", "As far.")]
THOUGHT = [("a", "<think>\nhm\n</think>\n\nb"), ("c", "<think>\nwell\n</think>\n\nd")]


@needs_shared
@pytest.mark.parametrize("marks", [True, False])
@pytest.mark.parametrize("system", ["", "Be kind."])
@pytest.mark.parametrize("talk", [TALK, TALK[:1], THOUGHT], ids=["three turns", "one turn", "thoughts"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_and_trained_tokens_are_those_of_transformers(
    theirs: Any, ours: Tokenizer, name: str, talk: list[tuple[str, str]], system: str, marks: bool
) -> None:
    """Without marks too: transformers then gets the marked spelling, and we the other."""
    found = theirs.apply_chat_template(
        rows_of(said(talk), system),
        chat_template=spell(TEMPLATES[name], marks=True),
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    own = open_own(spell(TEMPLATES[name], marks=marks), ours)
    assert encoded(own, ours, said(talk), system) == (found["input_ids"], found["assistant_masks"])


@needs_shared
def test_where_the_marks_leave_the_end_out_all_but_the_end_is_the_same(theirs: Any, ours: Tokenizer) -> None:
    source = spell(MARKED, marks=True)
    found = theirs.apply_chat_template(
        rows_of(said(TALK), ""), chat_template=source, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = encoded(open_own(source, ours), ours, said(TALK), "")
    assert (ids, mask) == (found["input_ids"][:-1], found["assistant_masks"][:-1])
    assert theirs.decode(found["input_ids"][-1:]) == "<|endoftext|>"


@pytest.mark.parametrize("marks", [True, False])
@pytest.mark.parametrize("name", TEMPLATES)
@given(talk=TALKS, system=st.just("") | WORDS, thinking=st.sampled_from([True, False, None]))
def test_the_slots_joined_are_the_one_rendering(
    name: str, marks: bool, talk: list[tuple[str, str]], system: str, thinking: bool | None
) -> None:
    own = OwnTemplate(spell(TEMPLATES[name], marks=marks), bos_token="<s>", eos_token="</s>", rules=RenderRules(enable_thinking=thinking))  # fmt: skip
    messages = said(talk)
    whole = own.render(rows_of(messages, system), add_generation_prompt=False)
    turns = own.turns(messages, system)
    assert "".join(str(slot) for turn in turns for slot in (*turn.source, *turn.target)) == whole
    assert len(turns) == len(talk)


@pytest.mark.parametrize("name", TEMPLATES)
@given(talk=TALKS, thoughts=st.lists(st.booleans(), min_size=4, max_size=4))
def test_marks_and_comparison_find_the_same_answers_or_the_comparison_refuses(
    name: str, talk: list[tuple[str, str]], thoughts: list[bool]
) -> None:
    talk = [(a, f"<think>\nhm {b}\n</think>\n\n{b}" if on else b) for (a, b), on in zip(talk, thoughts, strict=False)]
    both = []
    for marks in (True, False):
        own = OwnTemplate(spell(TEMPLATES[name], marks=marks), bos_token="<s>", eos_token="</s>")
        try:
            both.append(own.turns(said(talk), ""))
        except RowFault:
            assert not marks
            return
    assert both[0] == both[1]


@pytest.mark.parametrize("marks", [True, False])
def test_a_template_that_wants_strict_turns_faults_what_it_does_not_know(marks: bool) -> None:
    talk = [*said(TALK[:1]), Message("observation", "snow"), Message("assistant", "b")]
    with pytest.raises(RowFault, match="refuses this conversation: roles must alternate"):
        OwnTemplate(spell(MISTRAL, marks=marks)).turns(talk, "")
