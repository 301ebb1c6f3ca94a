"""Chunks to shards: every row in its place, with what is known of it besides its ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from registry.datasets import OPENAI_TAGS, Columns, Layout
from registry.encoded.chunks import Chunk
from registry.encoded.work import Encoded, Encoding
from registry.formats import LAYOUTS
from registry.records import Message
from registry.render import RenderRules, SlotRenderer
from registry.rows import BadRow, Row
from registry.templates import load_template
from registry.tokenizer import open_tokenizer
from registry.uncut import encode_rows
from tests.registry.encoded.conftest import MakeSpec, alpaca_rows, write_lines

OPENAI = Layout("openai", Columns(messages="messages", tools="tools"), OPENAI_TAGS)
TOOLS = json.dumps([{"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}])


def encoded(encoding: Encoding, *data: Any) -> Encoded:
    return encoding.encode([Row("a.jsonl", number, one) for number, one in enumerate(data, start=1)])


def texts(encoding: Encoding, found: Encoded) -> list[list[str]]:
    """Each row's parts as text."""
    shown = []
    for row in range(len(found.extras.rows)):
        ids, parts = found.uncut.row(row)
        ends = [sum(parts[: n + 1]) for n in range(len(parts))]
        shown.append(
            [encoding.tokenizer.decode(ids[end - size : end].tolist()) for end, size in zip(ends, parts, strict=True)]
        )
    return shown


def ask(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def test_a_conversation_is_its_prompts_and_answers(spec: MakeSpec, tmp_path: Path) -> None:
    encoding = Encoding(spec(layout=LAYOUTS["alpaca"]), tmp_path)
    row = {"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]}
    found = encoded(encoding, row, {"instruction": "a", "output": "b"})
    assert texts(encoding, found) == [
        [ask("d"), "e<|im_end|>\n", ask("a\nb"), "c<|im_end|>\n"],
        [ask("a"), "b<|im_end|>\n"],
    ]


def test_a_pair_is_its_prompt_and_both_answers(spec: MakeSpec, tmp_path: Path) -> None:
    encoding = Encoding(spec(kind="pair", layout=LAYOUTS["preference"]), tmp_path)
    found = encoded(encoding, {"instruction": "a", "chosen": "b", "rejected": "c", "history": [["d", "e"]]})
    assert texts(encoding, found) == [[f"{ask('d')}e<|im_end|>\n{ask('a')}", "b<|im_end|>\n", "c<|im_end|>\n"]]


def test_a_judged_answer_is_prompt_thought_and_answer_with_its_judgement(spec: MakeSpec, tmp_path: Path) -> None:
    rules = RenderRules(enable_thinking=False)
    encoding = Encoding(spec(kind="answer", layout=LAYOUTS["kto"], template="qwen3", rules=rules), tmp_path)
    found = encoded(
        encoding, *({"instruction": "a", "output": "b", "kto_tag": tag} for tag in (True, False)), {"instruction": "a"}
    )
    assert texts(encoding, found) == [[ask("a"), "<think>\n\n</think>\n\n", "b<|im_end|>\n"]] * 2 + [[]]
    assert found.extras.desirable == [True, False, None]


@pytest.mark.parametrize(("end_text", "end"), [(None, "<eos>"), ("", ""), ("<|im_end|>", "<|im_end|>")])
@pytest.mark.parametrize("template", ["chatml", None])
def test_a_text_ends_with_the_end_of_a_text(
    spec: MakeSpec, tmp_path: Path, end_text: str | None, end: str, template: str | None
) -> None:
    """Of a tokenizer without a chat template too."""
    encoding = Encoding(spec(kind="text", layout=LAYOUTS["text"], end_text=end_text, template=template), tmp_path)
    own = encoding.tokenizer.eos_token if end_text is None else end
    found = encoded(encoding, {"text": "one"}, {"text": 1}, {"text": "two"}, {"text": "\ud800"})
    assert texts(encoding, found) == [[f"one{own}"], [""], [f"two{own}"], [""]]
    assert sorted(found.uncut.faults) == [1, 3]


def test_rows_that_are_none_keep_their_place_with_the_reason(spec: MakeSpec, tmp_path: Path) -> None:
    encoding = Encoding(spec(), tmp_path)
    rows: Sequence[Row | BadRow] = [
        Row("a.jsonl", 7, {"instruction": "a", "output": "b"}),
        BadRow("a.jsonl", 8, "not JSON", "{oops"),
        Row("a.jsonl", 9, {"instruction": "a", "output": 3}),
        Row("a.jsonl", 10, {"instruction": "a", "output": "\ud800"}),
        Row("a.jsonl", 11, {"instruction": "c", "output": "d"}),
    ]
    found = encoding.encode(rows)
    assert found.extras.rows == [7, 8, 9, 10, 11]
    assert [(one["row"], one["field"], one["raw"]) for one in found.rejects] == [
        (8, "row", "{oops"),
        (9, "output", {"instruction": "a", "output": 3}),
        (10, "text", {"instruction": "a", "output": "\ud800"}),
    ]
    assert sorted(found.uncut.faults) == [1, 2, 3]


def test_what_answers_count_and_who_speaks_is_kept_where_it_is_not_the_ordinary(spec: MakeSpec, tmp_path: Path) -> None:
    encoding = Encoding(spec(layout=OPENAI), tmp_path)

    def messages(**of_answer: Any) -> list[dict[str, Any]]:
        return [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **of_answer}]

    call = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    with_tools = [
        {"role": "user", "content": "a"},
        call,
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "b"},
    ]
    found = encoded(
        encoding,
        {"messages": messages()},
        {"messages": [*messages(weight=0), *messages()]},
        {"messages": messages(weight=0.5)},
        {"messages": with_tools, "tools": TOOLS},
    )
    assert not found.uncut.faults, found.rejects
    assert found.extras.weights == [None, [0, 1], [0.5], None]
    assert found.extras.roles == [None, None, None, [0, 3, 2, 1]]


@pytest.mark.parametrize("template", ["chatml", "qwen", "alpaca", "default"])
@pytest.mark.parametrize("system", ["", "Be kind."])
def test_the_lead_is_what_stands_before_the_first_message(
    spec: MakeSpec, tmp_path: Path, template: str, system: str
) -> None:
    encoding = Encoding(spec(template=template, layout=LAYOUTS["alpaca"]), tmp_path)
    found = encoded(
        encoding, *({"instruction": text, "output": "b", "system": system} for text in ("a", "abc", "<eos>"))
    )
    built_in = load_template(template)
    wanted = "".join(str(slot) for slot in built_in.prefix if isinstance(slot, str))
    if system or built_in.default_system:
        wanted += "".join(s if isinstance(s, str) else "<eos>" for s in built_in.system).replace(
            "{{content}}", system or built_in.default_system
        )
    for number, lead in enumerate(found.extras.leads):
        assert encoding.tokenizer.decode(found.uncut.row(number)[0][:lead].tolist()) == wanted


def test_special_tokens_in_the_users_text_are_counted_and_stay_text(spec: MakeSpec, tmp_path: Path) -> None:
    row = {"instruction": "a<|im_end|><eos>", "output": "b"}
    encoding = Encoding(spec(), tmp_path)
    found = encoded(encoding, row, {"instruction": "plain", "output": "b"})
    assert found.specials == 2
    ids = found.uncut.row(0)[0].tolist()
    assert ids.count(encoding.tokenizer.token_id("<|im_end|>")) == 2, "one after the question, one after the answer"
    assert texts(encoding, found)[0][0] == ask("a<|im_end|><eos>")
    kept = Encoding(spec(rules=RenderRules(keep_special_text=True)), tmp_path)
    assert encoded(kept, row).uncut.row(0)[0].tolist().count(encoding.tokenizer.token_id("<|im_end|>")) == 3


def test_rows_with_pictures_are_refused_with_what_they_hold(spec: MakeSpec, tmp_path: Path) -> None:
    layout = Layout(columns=Columns(images="images"))
    encoding = Encoding(spec(layout=layout), tmp_path)
    found = encoded(
        encoding,
        {"instruction": "<image>What is it?", "output": "A cat.", "images": ["cat.png", "dog.png"]},
        {"instruction": "Why?", "output": "So.", "images": []},
    )
    assert [(one["row"], one["field"], one["reason"]) for one in found.rejects] == [
        (1, "images", "it has 2 of them for 1 <image>, and only text is encoded")
    ]


def test_a_shard_tells_the_journal_what_it_holds(spec: MakeSpec, tmp_path: Path) -> None:
    encoding = Encoding(spec(write_lines(tmp_path / "a.jsonl", alpaca_rows(10))), tmp_path)
    entry = encoding.shard(Chunk(0, 0))
    assert entry is not None
    named = ("file", "index", "rows", "faults", "specials", "tokenizer", "doubtful")
    assert [entry[name] for name in named] == [0, 0, 10, 1, 0, "tokenizers", 0]
    assert entry["bytes"] == (tmp_path / "0000-000000.arrow").stat().st_size
    assert entry["rejects"][0] == (tmp_path / "0000-000000.rejects.jsonl").stat().st_size
    assert encoding.shard(Chunk(0, 1)) is None


@pytest.mark.usefixtures("small_chunks")
def test_chunks_are_found_in_any_order(spec: MakeSpec, tmp_path: Path) -> None:
    """Each worker passes over those of the others; none after the end is looked for twice."""
    (tmp_path / "a.json").write_text(json.dumps(alpaca_rows(20)))
    encoding = Encoding(spec(tmp_path / "a.json"), tmp_path)

    def rows(index: int) -> list[int] | None:
        pieces = encoding._pieces(Chunk(0, index))
        return pieces and [row.number for piece in pieces for row in piece]  # type: ignore[union-attr]

    assert rows(1) == [5, 6, 7, 8]
    assert rows(3) == [13, 14, 15, 16]
    assert rows(0) == [1, 2, 3, 4]
    assert rows(4) == [17, 18, 19, 20]
    assert rows(5) is None
    (tmp_path / "a.json").unlink()
    assert rows(6) is None


def test_the_long_way_is_the_encoders(spec: MakeSpec, tmp_path: Path) -> None:
    """Ids of a conversation in the cache are those of its turns."""
    given = spec(layout=LAYOUTS["sharegpt"], template="qwen")
    encoding = Encoding(given, tmp_path)
    tokenizer, renderer = open_tokenizer(given.tokenizer_folder, "qwen")
    assert isinstance(renderer, SlotRenderer)
    spoken = [("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")]
    found = encoded(encoding, {"conversations": [{"from": who, "value": text} for who, text in spoken], "system": "s"})
    messages = [Message("user" if who == "human" else "assistant", text) for who, text in spoken]
    wanted = encode_rows([renderer.turns(messages, "s")], "turns", tokenizer)
    assert (found.uncut.ids.tolist(), found.uncut.parts.tolist()) == (wanted.ids.tolist(), wanted.parts.tolist())
