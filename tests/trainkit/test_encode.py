"""Tokenise only: what training would see, as JSON lines or an encoded folder."""

from __future__ import annotations

import json
import os
import signal
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.cuts import IGNORE
from registry.examples import Example, FeedbackExample
from trainkit.config import load_config
from trainkit.encode import block_columns, columns_of, load
from trainkit.run import run

Run = Callable[..., Any]
STAGES = {
    "sft": ({}, {"input_ids", "labels", "attention_mask"}, 24),
    "pt": ({"stage": "pt", "dataset": "pages", "cutoff_len": 32}, {"input_ids", "attention_mask"}, None),
    "dpo": (
        {"stage": "dpo", "dataset": "pairs"},
        {"chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"},
        12,
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_one_example_is_one_object_with_the_columns_of_its_stage(
    trainkit: Run, config_file: Run, tmp_path: Path, stage: str
) -> None:
    keys, columns, count = STAGES[stage]
    path = config_file(**keys)
    found = trainkit("encode", path, "-o", "out.jsonl", "--json").json
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == found["examples"] == (count or len(lines)) > 0
    assert all(set(line) == columns for line in lines)
    trained = run(load_config(path, ["max_steps=1", f"output_dir={tmp_path / 'out'}"]), quiet=True).examples.train
    assert lines == [columns_of(example, stage) for example in trained]


def test_a_folder_with_a_tokenizer_and_no_weights_is_enough(
    trainkit: Run, config_file: Run, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "tokenizer" / name).write_bytes((model_folder / name).read_bytes())
    ran = trainkit("encode", config_file(model_name_or_path="tokenizer"), "-o", "out.jsonl")
    assert (ran.code, ran.out) == (0, "24 rows in, 24 examples in out.jsonl\n")


def test_the_manifest_and_the_rejects_lie_beside_it(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a"}\n')
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "rows.jsonl"}}')
    found = trainkit("encode", config_file(dataset="mine", dataset_dir=str(tmp_path)), "-o", "out.jsonl", "--json").json
    assert (found["rows_in"], found["rows_out"], sum(found["rejected"].values()), found["examples"]) == (2, 1, 1, 1)
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text("utf-8"))
    assert (manifest["rows_in"], manifest["outputs"][0]["bytes"]) == (2, (tmp_path / "out.jsonl").stat().st_size)
    assert json.loads((tmp_path / "out.jsonl.rejects.jsonl").read_text("utf-8"))["row"] == 2


def test_an_output_of_another_kind_is_refused(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    ran = trainkit("encode", config_file(), "-o", "out.parquet")
    assert ran.code == 2
    assert "A name that ends in .jsonl is written as JSON lines, one without an ending as an encoded folder." in ran.err
    assert not (tmp_path / "out.parquet").exists()


def test_ctrl_c_leaves_the_earlier_output_as_it_was(
    trainkit: Run, config_file: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.jsonl").write_text("earlier\n")

    def interrupted(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("trainkit.encode.columns_of", interrupted)
    assert trainkit("encode", config_file(), "-o", "out.jsonl").code == 130
    assert (tmp_path / "out.jsonl").read_text() == "earlier\n"


# --- an encoded folder, for tokenized_path ----------------------------------------------------------------------------


def test_a_name_without_an_ending_is_a_folder_that_a_run_trains_on(
    trainkit: Run, config_file: Run, tmp_path: Path
) -> None:
    path = config_file()
    ran = trainkit("encode", path, "-o", "tokens", "--json")
    assert (ran.code, ran.json["examples"], ran.json["outputs"]) == (0, 24, ["tokens"])
    assert ran.json["tokens"] > ran.json["trained_tokens"] > 0
    manifest = json.loads((tmp_path / "tokens.manifest.json").read_text("utf-8"))
    assert (manifest["rows_in"], manifest["outputs"]) == (24, [])
    wanted, _ = load(load_config(path, []))
    found, _ = load(load_config(path, [f"tokenized_path={tmp_path / 'tokens'}"]))
    assert found.digest() == wanted.digest()
    assert next(iter(found.sets.values())).folder.parent == tmp_path / "tokens"
    other = trainkit("encode", path, f"tokenized_path={tmp_path / 'tokens'}", "template=default", "-o", "out.jsonl")
    assert other.code == 2
    assert "template: was 'qwen3_nothink', is now 'default'" in other.err


def test_a_folder_of_ours_is_written_again_and_any_other_is_left_alone(
    trainkit: Run, config_file: Run, tmp_path: Path
) -> None:
    assert trainkit("encode", config_file(), "-o", "tokens").code == 0
    assert trainkit("encode", config_file(template="default"), "-o", "tokens").code == 0
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    ran = trainkit("encode", config_file(), "-o", "notes")
    assert (ran.code, "the folder holds something else" in ran.err) == (2, True)
    (tmp_path / "file").write_text("mine")
    ran = trainkit("encode", config_file(), "-o", "file")
    assert (ran.code, "this is a file, a folder is needed" in ran.err) == (2, True)
    assert (tmp_path / "file").read_text() == (tmp_path / "notes" / "mine.txt").read_text() == "mine"


def test_a_dataset_is_never_written_over(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "rows.jsonl"}}')
    ran = trainkit("encode", config_file(dataset="mine", dataset_dir=str(tmp_path)), "-o", "rows.jsonl")
    assert (ran.code, "this file is one of the datasets" in ran.err) == (2, True)
    assert (tmp_path / "rows.jsonl").read_text() == '{"instruction": "a", "output": "b"}\n'


def test_a_packed_run_is_written_as_its_blocks(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    found = trainkit("encode", config_file(packing=True, cutoff_len=128), "-o", "out.jsonl", "--json").json
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert 0 < len(lines) < found["examples"]
    assert {len(line["input_ids"]) for line in lines} == {128}
    assert all(set(line) == {"input_ids", "labels", "position_ids", "attention_mask"} for line in lines)
    assert sum(max(line["attention_mask"]) for line in lines) == found["examples"]
    assert sum(1 for line in lines for segment in line["attention_mask"] if segment) == found["tokens"]
    assert sum(1 for line in lines for label in line["labels"] if label != IGNORE) == found["trained_tokens"]


def test_judged_answers_are_written_with_those_of_their_kl_part() -> None:
    own, kl = Example(array("i", [1, 2]), array("i", [IGNORE, 2])), Example(array("i", [1, 3]), array("i", [IGNORE, 3]))
    assert columns_of(FeedbackExample(own, kl, desirable=True), "kto") == {
        "input_ids": [1, 2], "attention_mask": [1, 1], "labels": [IGNORE, 2],
        "kl_input_ids": [1, 3], "kl_labels": [IGNORE, 3], "kto_tags": True,
    }  # fmt: skip


def test_strict_packing_is_theirs_in_its_columns() -> None:
    """One mask of ones over everything, but with neat_packing, which numbers the examples."""
    examples = [Example(array("i", [1, 2]), array("i", [IGNORE, 2])), Example(array("i", [3]), array("i", [3]))]
    theirs = block_columns(examples, 5, 0, strict=True, neat=False)
    assert theirs["attention_mask"] == [1] * 5
    neat = block_columns(examples, 5, 0, strict=True, neat=True)
    assert neat["attention_mask"] == [1, 1, 2, 0, 0]
    assert neat["position_ids"] == [0, 1, 0, 0, 0]
    assert theirs["input_ids"] == neat["input_ids"] == [1, 2, 3, 0, 0]
    assert block_columns(examples, 5, 0, strict=False, neat=False)["attention_mask"] == [1, 1, 2, 0, 0]


def test_weights_of_answers_are_written_where_they_differ(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    turns = [("user", "a", None), ("assistant", "b", 0.5), ("user", "c", None), ("assistant", "d", None)]
    said = [{"role": r, "content": c, **({"weight": w} if w else {})} for r, c, w in turns]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    trainkit("encode", config_file(dataset="rows.jsonl"), "-o", "out.jsonl", "-q")
    line = json.loads((tmp_path / "out.jsonl").read_text("utf-8"))
    assert {w for w, label in zip(line["weights"], line["labels"], strict=True) if label != IGNORE} == {0.5, 1.0}
