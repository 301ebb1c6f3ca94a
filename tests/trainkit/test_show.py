"""One batch decoded: what is trained is marked, and every row is named."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.encode import IGNORE, Example
from registry.tokenizer import Tokenizer, open_tokenizer
from tests.conftest import BYTES
from trainkit.show import coloured, decoded, spans_of, visible

Run = Callable[..., Any]
FEEDBACK = [
    {"messages": [{"role": "user", "content": f"Is {word} a colour?"}, {"role": "assistant", "content": answer}], "label": good}
    for word, answer, good in (("red", "It is one.", True), ("seven", "Of course.", False), ("blue", "Yes, it is.", True))
]  # fmt: skip
JUDGED = {
    "file_name": "judged.jsonl",
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "kto_tag": "label"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
}


def test_what_is_trained_is_marked(trainkit: Run, config_file: Run) -> None:
    out = trainkit("show", config_file(), "-n", 1).out
    header, text = out.split("\n", 1)
    assert header.startswith("─── example 1 · ")
    assert header.endswith("questions.jsonl, row 1")
    assert text == (
        "<|im_start|>user\nHow many steps has the lighthouse of Ardh?<|im_end|>\n<|im_start|>assistant\n"
        "[[The lighthouse of Ardh has 21 steps.<|im_end|>\n]]\n"
    )


def test_both_answers_of_a_pair_are_shown(trainkit: Run, config_file: Run) -> None:
    out = trainkit("show", config_file(stage="dpo", dataset="pairs"), "-n", 1).out
    assert "─── example 1 chosen · " in out
    assert "[[Take a lantern: the path to Ardh is steep.<|im_end|>" in out
    assert "─── example 1 rejected · " in out
    assert "[[Yes, run as fast as you can to Ardh.<|im_end|>" in out


def test_a_judged_answer_stands_beside_its_kl_row(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    (tmp_path / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in FEEDBACK), "utf-8")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"judged": JUDGED}), "utf-8")
    ran = trainkit("show", config_file(stage="kto", dataset="judged", dataset_dir=str(tmp_path)), "--rows", "2")
    own, kl = ran.out.split("─── example 2 kl")
    assert "example 2 own · undesirable · " in own
    for words in ("Is seven a colour?", "[[Of course.<|im_end|>"):
        assert words in own
    for words in ("Is seven a colour?", "[[It is one.<|im_end|>", "judged.jsonl, row 2 · ", "judged.jsonl, row 1 · "):
        assert words in kl


def test_a_packed_block_tells_where_each_example_begins(trainkit: Run, config_file: Run) -> None:
    path = config_file(packing=True, cutoff_len=128)
    block = trainkit("show", path, "-n", 1, "--json").json["sequences"][0]
    assert len(block["sources"]) > 1
    assert [s["end"] for s in block["sources"][:-1]] == [s["start"] for s in block["sources"][1:]]
    assert block["sources"][-1]["end"] == len(block["ids"]) == 128 - block["padding"]
    assert all(block["labels"][s["start"]] == IGNORE for s in block["sources"])
    out = trainkit("show", path, "-n", 1).out
    assert out.startswith("─── block 1 · ")
    assert out.count("┄┄┄ ") == len(block["sources"])
    assert "questions.jsonl, row 1 · tokens 0 to " in out


def test_a_block_of_text_names_the_texts_in_it(trainkit: Run, config_file: Run, data_folder: Path) -> None:
    path = config_file(stage="pt", dataset="pages", cutoff_len=128)
    shown = trainkit("show", path, "-n", 100, "--json").json
    assert shown["total"] == len(shown["sequences"])
    pages = (data_folder / "pages.txt").read_text("utf-8").splitlines()
    found: dict[int, str] = {}
    for block in shown["sequences"]:
        assert (block["tokens"], block["trained"]) == (128, 128)
        for source in block["sources"]:
            spans = [s for s in block["spans"] if source["start"] <= s["start"] < source["end"]]
            found[source["row"]] = found.get(source["row"], "") + "".join(s["text"] for s in spans)
    whole = sorted(found)[:-1]  # what is left of the last text fills no block
    assert [found[row].replace("<|im_end|>", "").replace("<|endoftext|>", "") for row in whole] == [
        pages[row - 1] for row in whole
    ]


def test_the_object_holds_ids_labels_and_spans(trainkit: Run, config_file: Run) -> None:
    shown = trainkit("show", config_file(), "-n", 2, "--json").json
    assert (shown["command"], shown["stage"], shown["unit"], shown["total"]) == ("show", "sft", "example", 24)
    for one in shown["sequences"]:
        assert one["tokens"] == len(one["ids"]) == len(one["labels"]) == shown["length"] - one["padding"]
        assert one["trained"] == sum(label != IGNORE for label in one["labels"])
        assert "".join(span["text"] for span in one["spans"]) == one["text"]
        assert [span["trained"] for span in one["spans"]] == [False, True]
        assert [span["end"] for span in one["spans"]] == [one["spans"][1]["start"], one["tokens"]]


def test_examples_are_chosen_by_number(trainkit: Run, config_file: Run) -> None:
    shown = trainkit("show", config_file(), "--rows", "3,17", "--json").json
    assert [(one["number"], one["sources"][0]["row"]) for one in shown["sequences"]] == [(3, 3), (17, 17)]
    ran = trainkit("show", config_file(), "--rows", "25")
    assert (ran.code, ran.err.splitlines()[-2:]) == (
        2,
        ["error: --rows: there is no example 25", "  They are numbered from 1 to 24."],
    )
    assert '"3-4" are no numbers' in trainkit("show", config_file(), "--rows", "3-4").err


def test_a_weight_stands_behind_what_it_weighs(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    turns = [("user", "one", None), ("assistant", "two", 0), ("user", "three", None), ("assistant", "four", 0.5)]
    row = {
        "messages": [
            {"role": role, "content": text} | ({} if weight is None else {"weight": weight})
            for role, text, weight in turns
        ]
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    entry = JUDGED | {"file_name": "rows.jsonl", "columns": {"messages": "messages"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": entry}), "utf-8")
    out = trainkit("show", config_file(dataset="mine", dataset_dir=str(tmp_path))).out
    assert "[[four<|im_end|>\n]]×0.5\n" in out
    assert "[[two" not in out


@pytest.mark.parametrize(
    ("trained", "expected"),
    [([0, 0, 0], "abc"), ([1, 1, 1], "[[abc]]"), ([0, 1, 0], "a[[b]]c"), ([1, 0, 1], "[[a]]b[[c]]")],
)
def test_spans_are_marked_where_training_begins_and_ends(model_folder: Path, trained: list[int], expected: str) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "qwen3_nothink")
    ids = [tokenizer.token_id(letter) or 0 for letter in "abc"]
    labels = [i if mark else IGNORE for i, mark in zip(ids, trained, strict=True)]
    assert coloured(spans_of(Example(array("i", ids), array("i", labels)), tokenizer), colour=False) == expected


def test_colour_is_green_and_only_where_asked_for() -> None:
    spans = spans_of(Example(array("i", [97, 98]), array("i", [IGNORE, 98])), BYTES)  # type: ignore[arg-type]
    assert coloured(spans, colour=True) == "a\x1b[32mb\x1b[0m"
    assert coloured(spans, colour=False) == "a[[b]]"


def test_control_characters_are_written_as_escapes() -> None:
    spans = spans_of(Example(array("i", [27, 27]), array("i", [IGNORE, 27])), BYTES)  # type: ignore[arg-type]
    assert coloured(spans, colour=False) == "\\x1b[[\\x1b]]"
    assert visible("a\x1b[31mb\n\tc\x00") == "a\\x1b[31mb\n\tc\\x00"


@given(st.text(max_size=20), st.sets(st.integers(1, 40), max_size=5))
def test_the_spans_of_whole_characters_join_to_the_decoded_text(text: str, cuts: set[int]) -> None:
    ids = list(text.encode())
    starts = [0, *sorted(at for at in cuts if at < len(ids) and ids[at] & 0xC0 != 0x80)] if ids else []
    assert "".join(decoded(ids, starts, BYTES)) == text  # type: ignore[arg-type]


def test_half_a_character_is_shown_as_it_decodes() -> None:
    ids = list("é".encode())
    assert decoded(ids, [0, 1], BYTES) == ["�", "�"]  # type: ignore[arg-type]


def test_a_blank_that_a_stretch_begins_with_is_not_lost() -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models

    backend = Backend(models.WordLevel({"▁one": 0, "▁two": 1}, unk_token="▁one"))
    backend.decoder = decoders.Metaspace()
    tokenizer = Tokenizer.__new__(Tokenizer)
    tokenizer.backend = backend
    assert decoded([0, 1], [0, 1], tokenizer) == ["one", " two"]
