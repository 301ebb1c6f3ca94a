"""The model card: data with hashes, settings, results, versions, and front matter that the hub takes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from registry.manifest import Ledger, manifest_path
from trainkit.card import Source, sources_of, table, write_card
from trainkit.config import load_config


def card(folder: Path, **keys: Any) -> tuple[dict[str, Any], str]:
    """(front matter, text) of a card for these keys."""
    config = load_config({"model_name_or_path": "org/base", "dataset": "questions", **keys})
    sources = [Source("questions", "data/q|a.jsonl", 24, "ab12"), Source("", "hf://org/set", 3, None)]
    write_card(folder, config, {"train_loss": 1.23456789, "epoch": 2.0}, sources, rows_in=27, num_train=20, num_eval=4)
    _, front, text = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def test_a_card_names_data_settings_results_and_versions(tmp_path: Path) -> None:
    import torch

    front, text = card(tmp_path, stage="sft", learning_rate=0.002)
    assert front == {
        "base_model": "org/base",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["tunekit", "sft", "lora"],
    }
    for line in (
        "Supervised fine-tuning (LoRA adapter) of `org/base` on questions, made with tunekit",
        "| questions | `data/q\\|a.jsonl` | 24 | `ab12` |",
        "|  | `hf://org/set` | 3 | not known |",
        "27 rows read, 20 examples trained on, 4 held out.",
        "| train_loss | 1.23457 |",
        "| learning_rate | `0.002` |",
        f"| torch | {torch.__version__} |",
        "AutoPeftModelForCausalLM.from_pretrained(FOLDER)",
    ):
        assert line in text
    assert "lora_alpha" not in text, "a default is no news"


def test_what_no_hub_could_hold_stays_out_of_the_front_matter(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    front, text = card(
        tmp_path,
        model_name_or_path=str(tmp_path / "base"),
        dataset="../my rows.jsonl",
        finetuning_type="full",
        stage="pt",
    )
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["tunekit", "pt", "full"],
    }
    assert str(tmp_path / "base") in text


def test_a_file_is_named_with_its_dataset_and_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}\n")
    examples: Any = SimpleNamespace(sets={"rows": SimpleNamespace(files=[str(path)])}, ledger=Ledger())
    examples.ledger.read(str(path), 1)
    examples.ledger.read(str(tmp_path / "gone.jsonl"), 2)
    real = hashlib.sha256(b"{}\n").hexdigest()
    assert sources_of(examples) == [
        Source("rows", str(path), 1, real),
        Source("", str(tmp_path / "gone.jsonl"), 2, None),
    ]


@pytest.mark.parametrize(("size", "age_s", "trusted"), [(3, 0, True), (4, 0, False), (3, -60, False)])
def test_a_manifest_is_trusted_only_where_it_fits_its_file(
    tmp_path: Path, size: int, age_s: int, trusted: bool
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}\n")
    beside = manifest_path(path)
    beside.write_text(json.dumps({"outputs": [{"file": "elsewhere/rows.jsonl", "bytes": size, "sha256": "told"}]}))
    now = path.stat().st_mtime_ns + age_s * 10**9
    os.utime(beside, ns=(now, now))
    examples: Any = SimpleNamespace(sets={}, ledger=Ledger())
    examples.ledger.read(str(path), 1)
    assert (sources_of(examples)[0].sha256 == "told") == trusted


def test_a_cell_cannot_break_its_table() -> None:
    assert table(("a",), [("x|y\nz",)]).splitlines()[-1] == "| x\\|y z |"
