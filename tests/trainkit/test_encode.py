"""Tokenise only: what training would see, as JSON lines or an encoded folder."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainkit.config import load_config
from trainkit.encode import columns_of
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
