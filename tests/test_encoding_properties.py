"""What holds of every conversation: its ids read as the rendered text, and exactly what the rules say is trained."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.cuts import TRUNCATIONS
from registry.encode import IGNORE, Encoder, EncodeRules, Example
from registry.errors import RowFault
from registry.packing import pack_epoch
from registry.records import ChatRecord, Message
from registry.render import RenderRules, SlotRenderer
from registry.slots import special_pattern
from registry.templates import load_template, template_names
from tests.conftest import BYTES, ByteTokenizer, spelled, trained_text, whole_text
from trainkit.data.collate import collate_packed

Talk = list[tuple[str, str]]
SPECIALS = [*BYTES.specials, "<|im", "{{content}}", "{{idx}}", "灯", "\n", " ", "[INST]", "é"]
texts = st.lists(st.sampled_from([*SPECIALS, "a", "b", "Who?"]) | st.text(max_size=3), max_size=5).map("".join)
plain_texts = st.text("abc ?灯", max_size=8)
talks = st.lists(st.tuples(texts, texts), min_size=1, max_size=3)
plain_talks = st.lists(st.tuples(plain_texts, plain_texts), min_size=1, max_size=3)


def record(talk: Talk, system: str = "", tools: str = "", weights: list[float] | None = None) -> ChatRecord:
    weights = weights or [1.0] * len(talk)
    pairs = zip(talk, weights, strict=True)
    messages = [m for (u, a), w in pairs for m in (Message("user", u), Message("assistant", a, weight=w))]
    return ChatRecord(tuple(messages), system, tools)


def encoded(one: ChatRecord, name: str, rules: EncodeRules = EncodeRules(10**6), **spelling: Any) -> Any:
    """The example of a record by the template called ``name``."""
    return Encoder(BYTES, renderer(name, **spelling), rules).chats([one])[0]


def renderer(name: str, **spelling: Any) -> SlotRenderer:
    rules = RenderRules(**spelling)
    return SlotRenderer(load_template(name, strict=rules.strict), rules, special_pattern(BYTES.specials))


# --- spelled out by hand: (what opens the conversation, a prompt, an answer with its end, what ends it all) -------------


def chatml(system: str, talk: Talk, thought: str = "") -> tuple[str, list[str], list[str], str]:
    opening = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    asked = [f"<|im_start|>user\n{u}<|im_end|>\n<|im_start|>assistant\n" for u, _ in talk]
    return opening, asked, [f"{thought}{a}<|im_end|>\n" for _, a in talk], ""


def llama2(system: str, talk: Talk) -> tuple[str, list[str], list[str], str]:
    asked = [f"<bos>[INST] {u} [/INST]" for u, _ in talk]
    if system:
        asked[0] = f"<bos>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{talk[0][0]} [/INST]"
    return "", asked, [f"{a}<eos>" for _, a in talk], ""


def llama3(system: str, talk: Talk) -> tuple[str, list[str], list[str], str]:
    def headed(role: str, text: str) -> str:
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"

    opening = "<bos>" + (headed("system", system) if system else "")
    asked = [headed("user", u) + "<|start_header_id|>assistant<|end_header_id|>\n\n" for u, _ in talk]
    return opening, asked, [f"{a}<|eot_id|>" for _, a in talk], ""


def glm4(system: str, talk: Talk) -> tuple[str, list[str], list[str], str]:
    opening = "[gMASK]<sop>" + (f"<|system|>\n{system}" if system else "")
    return opening, [f"<|user|>\n{u}<|assistant|>" for u, _ in talk], [f"\n{a}" for _, a in talk], "<eos>"


def lines(system: str, talk: Talk) -> tuple[str, list[str], list[str], str]:
    opening = f"System: {system}<eos>\n" if system else ""
    return opening, [f"Human: {u}<eos>\nAssistant:" for u, _ in talk], [f"{a}<eos>\n" for _, a in talk], ""


SPELLED: dict[str, Callable[..., tuple[str, list[str], list[str], str]]] = {
    "qwen3_nothink": chatml,
    "llama2": llama2,
    "llama3": llama3,
    "glm4": glm4,
    "default": lines,
}
WITH_ENDS = [name for name in SPELLED if name != "glm4"]  # whose answers end themselves


@pytest.mark.parametrize("name", SPELLED)
@given(talk=talks, system=texts)
def test_the_ids_read_as_the_conversation_spelled_out(name: str, talk: Talk, system: str) -> None:
    opening, asked, answers, end = SPELLED[name](system, talk)
    text = opening + "".join(a + b for a, b in zip(asked, answers, strict=True)) + end
    assert whole_text(encoded(record(talk, system), name)) == text
    assert whole_text(encoded(record(talk, system), name, keep_special_text=True)) == text


@pytest.mark.parametrize("name", SPELLED)
@given(talk=talks, system=texts, random=st.randoms())
def test_trained_are_the_answers_with_their_ends_but_for_those_of_weight_0(
    name: str, talk: Talk, system: str, random: Any
) -> None:
    """Where an answer carries no end, the next prompt's first token is labelled with it."""
    weights = [random.choice([0.0, 0.5, 1.0]) for _ in talk]
    _, _, answers, end = SPELLED[name](system, talk)
    kept = [answer + end if weight else "" for answer, weight in zip(answers, weights, strict=True)]
    example = encoded(record(talk, system, weights=weights), name)
    if not any(weights):
        assert isinstance(example, RowFault)
        return
    assert trained_text(example) == "".join(kept)
    weighed = example.weights or [1.0] * len(example.labels)
    assert {w for w, label in zip(weighed, example.labels, strict=True) if label != IGNORE} == set(weights) - {0.0}


@pytest.mark.parametrize("name", WITH_ENDS)
@given(talk=talks, system=texts)
def test_trained_is_the_last_answer_alone_or_everything(name: str, talk: Talk, system: str) -> None:
    one, answers = record(talk, system), SPELLED[name](system, talk)[2]
    last = encoded(one, name, EncodeRules(10**6, mask_history=True), discard_thoughts=True)
    assert trained_text(last) == answers[-1]
    everything = encoded(one, name, EncodeRules(10**6, train_on_prompt=True))
    assert everything.labels == everything.ids
    assert everything.ids == last.ids


@given(talk=plain_talks, system=plain_texts)
def test_an_empty_thought_is_trained_with_the_answer_or_stands_before_it_or_goes(talk: Talk, system: str) -> None:
    thought = "<think>\n\n</think>\n\n"
    opening, asked, answers, _ = chatml(system, talk, thought)
    text = opening + "".join(a + b for a, b in zip(asked, answers, strict=True))
    trained, told, off = (encoded(record(talk, system), "qwen3", enable_thinking=e) for e in (True, None, False))
    assert [whole_text(example) for example in (trained, told, off)] == [text] * 3
    assert trained_text(trained) == "".join(answers)
    assert trained_text(told) == trained_text(off) == "".join(chatml(system, talk)[2])
    thinking = [(u, f"<think>\nWell.\n</think>\n\n{a}") for u, a in talk]
    assert trained_text(encoded(record(thinking), "qwen3")) == "".join(chatml("", thinking)[2])
    stripped = [(u, a.lstrip("\n")) for u, a in talk]
    assert trained_text(encoded(record(thinking), "qwen3", enable_thinking=False)) == "".join(chatml("", stripped)[2])


TOOLS = json.dumps([{"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}])


@pytest.mark.parametrize("name", ["default", "qwen", "llama3", "glm4", "mistral", "llama2", "qwen3"])
@given(talk=talks, system=texts, place=texts)
def test_tools_calls_and_results_read_as_rendered_and_only_calls_and_answers_are_trained(
    name: str, talk: Talk, system: str, place: str
) -> None:
    call = json.dumps({"name": "look", "arguments": {"where": place}})
    messages = (
        Message("user", "Look!"), Message("function", call), Message("observation", place), Message("assistant", "There."),
        *record(talk).messages,
    )  # fmt: skip
    one = ChatRecord(messages, system, TOOLS)
    turns = renderer(name).turns(one.messages, one.system, one.tools)
    example = encoded(one, name)
    end = "<eos>" if load_template(name).efficient_eos else ""
    assert whole_text(example) == spelled(turns) + end
    targets = [spelled([replace(turn, source=(), thought=())]) for turn in turns]
    assert trained_text(example) == end.join(targets) + end
    assert "look" in spelled([replace(turns[0], target=())])
    assert json.dumps(place, ensure_ascii=False)[1:-1] in targets[0]


@given(talk=talks)
def test_what_a_user_writes_is_never_a_special_token(talk: Talk) -> None:
    """With other words there the ids hold the same special tokens: the template's, and those of the model's side."""
    ids = encoded(record(talk), "chatml").ids
    plain = [(u.replace("<", "(").replace("{", "("), a) for u, a in talk]
    assert Counter(i for i in ids if i >= 256) == Counter(i for i in encoded(record(plain), "chatml").ids if i >= 256)


# --- strict and default -------------------------------------------------------------------------------------------------

CASES: list[tuple[Talk, str]] = [
    ([("Who?", "I.")], ""),
    ([("Who?", "I."), ("Why?", ""), ("", "So.")], "Be brief."),
    ([("灯塔 in\nlines", "a  b\n\n")], "c"),
]


@pytest.mark.parametrize("name", [name for name in template_names() if name != "phi_small"])
def test_a_plain_conversation_has_the_same_ids_and_labels_under_strict(name: str) -> None:
    for talk, system in CASES:
        one = record(talk, system)
        mine, theirs = (
            encoded(one, name, EncodeRules(10**6, strict=strict), strict=strict) for strict in (False, True)
        )
        assert (mine.ids, mine.labels, mine.weights) == (theirs.ids, theirs.labels, theirs.weights)


def test_phi_small_alone_begins_otherwise_under_strict() -> None:
    tokenizer = ByteTokenizer((*BYTES.specials, "<|endoftext|>"))
    mine, theirs = (
        Encoder(tokenizer, renderer("phi_small", strict=strict), EncodeRules()).chats([record(CASES[0][0])])[0]
        for strict in (False, True)
    )
    assert whole_text(mine, tokenizer) == "<|endoftext|>" + whole_text(theirs, tokenizer)
    assert trained_text(mine, tokenizer) == trained_text(theirs, tokenizer)


@pytest.mark.parametrize("name", SPELLED)
@given(talk=talks, system=texts)
def test_strict_differs_where_a_user_writes_a_special_token_or_a_turn_s_number_and_nowhere_else(
    name: str, talk: Talk, system: str
) -> None:
    one = record(talk, system)
    mine, theirs = encoded(one, name), encoded(one, name, strict=True)
    asked = [u for u, _ in talk]
    special = any(token in text for text in [*asked, system] for token in BYTES.specials)
    numbered = any("{{idx}}" in text for text in asked)
    if not numbered:
        assert whole_text(mine) == whole_text(theirs)
        assert (mine.ids != theirs.ids) == special
        assert trained_text(mine) == trained_text(theirs)
    elif not special and name != "llama2":
        assert mine.ids != theirs.ids


@pytest.mark.parametrize("name", ["default", "qwen", "llama3", "mistral"])
@given(talk=plain_talks, place=plain_texts)
def test_tools_told_behind_a_system_text_are_spelled_alike(name: str, talk: Talk, place: str) -> None:
    call = json.dumps({"name": "look", "arguments": {"where": place}})
    messages = (
        Message("user", "Look!"), Message("function", call), Message("observation", place), Message("assistant", "There."),
        *record(talk).messages,
    )  # fmt: skip
    one = ChatRecord(messages, "Be brief.", TOOLS)
    date = "21 November 2026"
    mine, theirs = (encoded(one, name, strict=strict, tool_prompt_date=date) for strict in (False, True))
    assert (mine.ids, mine.labels) == (theirs.ids, theirs.labels)


@given(
    talk=plain_talks,
    cutoff=st.integers(1, 80),
    masks=st.sampled_from([{}, {"train_on_prompt": True}, {"mask_history": True}]),
    name=st.sampled_from(sorted(SPELLED)),
    truncation=st.sampled_from(TRUNCATIONS),
)
@settings(max_examples=200)
def test_a_cut_conversation_is_the_same_under_strict_or_rejected_for_having_nothing_to_train(
    talk: Talk, cutoff: int, masks: dict[str, bool], name: str, truncation: str
) -> None:
    one = record(talk)
    mine, theirs = (
        encoded(one, name, EncodeRules(cutoff, strict=strict, truncation=truncation, **masks), strict=strict)
        for strict in (False, True)
    )
    eos = {BYTES.eos_id, IGNORE} if name == "glm4" else {IGNORE}  # written behind answers: strict trains each of them
    if isinstance(mine, RowFault):
        assert isinstance(theirs, RowFault) or set(theirs.labels) <= eos
        return
    assert (mine.ids, mine.num_cut) == (theirs.ids, theirs.num_cut)
    differ = [(a, b) for a, b in zip(mine.labels, theirs.labels, strict=True) if a != b]
    assert {a for a, _ in differ} <= {IGNORE}
    assert {b for _, b in differ} <= eos
    assert not differ or name == "glm4"
    assert len(mine.ids) <= cutoff


# --- packing ------------------------------------------------------------------------------------------------------------


@given(
    st.lists(plain_talks, min_size=1, max_size=12),
    st.integers(0, 99),
    st.booleans(),
    st.sampled_from(["llama2", "glm4"]),
)
def test_packed_examples_are_all_there_once_and_each_begins_anew(
    conversations: list[Talk], seed: int, shuffled: bool, name: str
) -> None:
    torch.set_num_threads(1)
    rules = EncodeRules(10**6, train_on_prompt=shuffled)
    examples = [encoded(record(talk), name, rules) for talk in conversations]
    block_len = max(len(example.ids) for example in examples) + seed
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed)).tolist() if shuffled else None
    blocks = pack_epoch([len(example.ids) for example in examples], block_len, order)
    batch = collate_packed([[examples[n] for n in block] for block in blocks], blocks, 258, block_len=block_len)
    assert batch.attention_mask is None
    found: Counter[Any] = Counter()
    for block, ids, labels, positions in zip(
        blocks, batch.input_ids.tolist(), batch.labels.tolist(), batch.position_ids.tolist(), strict=True
    ):
        at = 0
        for number in block:
            end = at + len(examples[number].ids)
            assert positions[at:end] == list(range(end - at))
            assert labels[at] == IGNORE
            assert labels[at + 1 : end] == list(examples[number].labels)[1:]
            found[tuple(ids[at:end])] += 1
            at = end
        assert set(ids[at:]) <= {258}
        assert set(labels[at:]) <= {IGNORE}
        assert set(positions[at:]) <= {0}
    assert found == Counter(tuple(example.ids) for example in examples)
    assert sorted(batch.indices) == list(range(len(examples)))
    assert isinstance(examples[0], Example)
