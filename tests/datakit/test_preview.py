"""datakit preview: what training will see of a row, and which of it is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datakit.preview import Span, count_tokens, spans_of, turns_as_spans
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord, TextRecord
from registry.render import SlotRenderer
from registry.templates import Token, load_template, template_from

QWEN2 = Path(__file__).parents[2] / "../shared/tokenizers/qwen2"
needs_qwen2 = pytest.mark.skipif(not QWEN2.is_dir(), reason="the qwen2 tokenizer is not beside the repository")
CHATML = SlotRenderer(load_template("chatml"))
TURNS = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"))


def spelled(spans: list[Span]) -> str:
    return "".join(f"[[{span.text}]]" if span.trained else span.text for span in spans)


def test_each_answer_with_its_end_marker_is_trained():
    assert spelled(spans_of(ChatRecord(TURNS, "s"), CHATML, None)["text"]) == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[[b<|im_end|>\n]]"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[[d<|im_end|>\n]]"
    )


def test_of_a_judged_conversation_only_the_last_answer_is_trained():
    spans = spans_of(FeedbackRecord(TURNS, True), CHATML, None)["text"]
    assert [span.text for span in spans if span.trained] == ["d<|im_end|>\n"]


def test_both_answers_of_a_pair_follow_the_same_prompt():
    pair = PreferenceRecord(TURNS[:3], Message("assistant", "good"), Message("assistant", "bad"))
    spans = spans_of(pair, CHATML, None)
    assert {name: found[1].text for name, found in spans.items()} == {
        "chosen": "good<|im_end|>\n",
        "rejected": "bad<|im_end|>\n",
    }
    assert spans["chosen"][0] == spans["rejected"][0]
    assert "b<|im_end|>" in spans["chosen"][0].text


def test_plain_text_is_trained_whole_with_its_end():
    assert spans_of(TextRecord("abc"), CHATML, None) == {"text": [Span("abc<eos_token>", True)]}


def test_one_end_marker_at_the_very_end_where_the_template_says_so():
    template = template_from("x", {
        "user": ["U:{{content}} "], "assistant": ["{{content}} "], "system": [], "observation": [], "function": [], "prefix": [],
        "stop_words": [], "default_system": "", "replace_eos": False, "efficient_eos": True, "system_in_user": False,
        "tool_format": "default",
    })  # fmt: skip
    spans = spans_of(ChatRecord(TURNS), SlotRenderer(template), None)["text"]
    assert spelled(spans) == "U:a [[b ]]U:c [[d <eos_token>]]"


def test_without_a_template_the_turns_are_named():
    parts = turns_as_spans(ChatRecord(TURNS[:2], "s"))
    assert parts == {"system": [Span("s", False)], "1 user": [Span("a", False)], "2 assistant": [Span("b", True)]}
    pair = turns_as_spans(PreferenceRecord(TURNS[:3], TURNS[1], TURNS[3]))
    assert {name for name, spans in pair.items() if spans[0].trained} == {"chosen", "rejected"}


class Letters:
    """A tokenizer that makes one token of each character."""

    bos_id, eos_id, pad_id, eos_token = 1, 2, 2, "$"
    bos_token = "^"

    def encode_batch(self, texts):
        return [[ord(c) for c in text] for text in texts]

    def token_id(self, token):
        return 3


@pytest.mark.parametrize(
    "record",
    [
        ChatRecord(TURNS, "s"),
        FeedbackRecord(TURNS, False),
        TextRecord("abc"),
        PreferenceRecord(TURNS[:1], TURNS[1], TURNS[3]),
    ],
)
@pytest.mark.parametrize("template", ["chatml", "default", "empty", "llama2"])
def test_counted_tokens_are_the_letters_of_the_spans(record, template):
    tokenizer = Letters()
    load = load_template(template)
    renderer = SlotRenderer(load)
    counts = count_tokens(record, renderer, tokenizer)  # type: ignore[arg-type]
    # A named token is several letters of text but one token.
    slots = {
        s.text or getattr(tokenizer, s.of) for s in (*load.user, *load.assistant, *load.prefix) if isinstance(s, Token)
    }  # type: ignore[arg-type]
    for name, spans in spans_of(record, renderer, tokenizer).items():  # type: ignore[arg-type]
        texts = [(span.text, span.trained) for span in spans]
        for token in slots:
            texts = [(text.replace(token, "_"), trained) for text, trained in texts]
        assert counts[name] == {
            "tokens": sum(len(text) for text, _ in texts),
            "trained": sum(len(text) for text, trained in texts if trained),
        }


def test_off_a_terminal_what_is_trained_stands_in_brackets(datakit, write_rows):
    write_rows(
        "in.jsonl",
        {"instruction": "Hi", "output": "Yo"},
        {"instruction": "Hi", "output": 3},
        {"instruction": "", "output": ""},
    )
    assert datakit("preview", "in.jsonl", "-n", "2", "--template", "chatml").out == (
        "What is trained is [[in double brackets]]; the rest is only read.\n"
        "\n"
        "--- in.jsonl, row 1: chat\n"
        "text:\n"
        "    <|im_start|>user\n"
        "    Hi<|im_end|>\n"
        "    <|im_start|>assistant\n"
        "    [[Yo<|im_end|>\n"
        "    ]]\n"
        "\n"
        "--- in.jsonl, row 2: chat\n"
        '    not usable: field "output": text belongs here, not a number (3)\n'
    )


def test_rows_cannot_drive_the_terminal(datakit, write_rows):
    write_rows("in.jsonl", {"instruction": "\x1b[2J\x07", "output": "b"})
    assert "    \\x1b[2J\\x07\n" in datakit("preview", "in.jsonl").out


def test_json_is_one_object_with_the_spans(datakit, write_rows):
    write_rows("in.jsonl", {"text": "abc"})
    found = datakit("preview", "in.jsonl", "--template", "default", "--json").json
    assert found["format"] == "alpaca (text)"
    assert found["rows"] == [
        {"file": "in.jsonl", "row": 1, "kind": "text", "spans": {"text": [{"text": "abc<eos_token>", "trained": True}]},
         "tokens": None, "note": "", "fault": None}
    ]  # fmt: skip


def test_a_dataset_goes_by_its_name_and_its_entry_tells_the_columns(datakit, write_rows, tmp_path):
    (tmp_path / "data").mkdir()
    write_rows("data/rows.jsonl", {"q": "Hi", "r": "Yo"})
    entry = {"file_name": "rows.jsonl", "columns": {"prompt": "q", "response": "r"}}
    (tmp_path / "data/dataset_info.json").write_text(json.dumps({"mine": entry}))
    ran = datakit("preview", "mine")
    assert ran.code == 0
    assert "2 assistant:\n    [[Yo]]" in ran.out


@needs_qwen2
def test_with_a_model_tokens_are_counted_and_its_own_template_is_the_default(datakit, write_rows):
    write_rows("in.jsonl", {"instruction": "Hi", "output": "Hello there"})
    found = datakit("preview", "in.jsonl", "--model", QWEN2.resolve(), "--json").json["rows"][0]
    assert found["spans"]["text"][-1] == {"text": "Hello there<|im_end|>\n", "trained": True}
    assert found["tokens"]["text"] == {"tokens": 24, "trained": 4}
    assert "(4 of 24 tokens trained)" in datakit("preview", "in.jsonl", "--model", QWEN2.resolve()).out
