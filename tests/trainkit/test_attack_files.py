"""Damaged files and paths that would destroy something: told in a few lines, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.errors import UsageError
from registry.own_template import OwnTemplate, RowFault
from trainkit.checkpoint import list_checkpoints, newest_checkpoint, prune
from trainkit.claim import read_record
from trainkit.reference import FILE, load_reference, save_reference

Run = Callable[..., Any]


@pytest.mark.parametrize("keep", [None, 0, -1, -5])
def test_a_limit_below_one_keeps_every_checkpoint(tmp_path: Path, keep: int | None) -> None:
    for step in (1, 2, 3):
        (tmp_path / f"checkpoint-{step}").mkdir()
    prune(tmp_path, keep)
    assert len(list_checkpoints(tmp_path)) == 3


@pytest.mark.parametrize(
    "text", ["[]", "3", "{}", '{"format_version": 1}', '{"format_version": 1, "step": 1, "files": []}']
)
def test_a_checkpoint_whose_manifest_is_nonsense_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "checkpoint.json").write_text(text)
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"format_version": 1}', "{"])
def test_a_record_that_is_nonsense_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert read_record(tmp_path) is None


@pytest.mark.parametrize("size", [0, 20])
def test_a_reference_that_is_cut_off_is_none(tmp_path: Path, size: int) -> None:
    save_reference(tmp_path / FILE, torch.zeros(2, 3), "digest")
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:size])
    assert load_reference(tmp_path / FILE, "digest") is None


def test_a_checkpoint_beyond_the_last_step_is_not_resumed(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    assert trainkit("run", config_file(max_steps=3, save_strategy="steps", save_steps=3)).code == 0
    checkpoint = tmp_path / "out" / "checkpoint-3"
    other = config_file(max_steps=2, output_dir=str(tmp_path / "other"), resume_from_checkpoint=str(checkpoint))
    ran = trainkit("run", other)
    assert ran.code == 2
    assert "the checkpoint is of step 3, and this run has only 2" in ran.err
    assert not (tmp_path / "other" / "model.safetensors").exists()


def test_encode_does_not_overwrite_the_rows_it_reads(
    trainkit: Run, config_file: Run, data_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(data_folder, tmp_path / "data")
    rows = tmp_path / "data" / "questions.jsonl"
    before = rows.read_bytes()
    ran = trainkit("encode", config_file(dataset_dir=str(tmp_path / "data")), "-o", rows)
    assert ran.code == 2
    assert "this file is one of the datasets" in ran.err
    assert rows.read_bytes() == before


def test_export_does_not_overwrite_the_model_it_reads(
    trainkit: Run, config_file: Run, model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "mine")
    (tmp_path / "mine.manifest.json").write_text("{}")  # as init leaves it: the mark of a folder of ours
    before = (tmp_path / "mine" / "model.safetensors").read_bytes()
    ran = trainkit("export", config_file(model_name_or_path=str(tmp_path / "mine"), export_dir="mine"))
    assert ran.code == 2
    assert '"export_dir" holds what is to be exported' in ran.err
    assert (tmp_path / "mine" / "model.safetensors").read_bytes() == before


def test_init_does_not_replace_the_rows_it_reads_nor_the_folder_it_is_in(trainkit: Run, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "rows.jsonl").write_text('{"text": "a word or two"}\n')
    ran = trainkit("init", "work", "--data", "work/rows.jsonl", "--force")
    assert ran.code == 2
    assert "the rows to read lie in it (work/rows.jsonl)" in ran.err
    ran = trainkit("init", ".", "--data", "work/rows.jsonl", "--force")
    assert ran.code == 2
    assert "this is the folder you are in" in ran.err
    assert (tmp_path / "work" / "rows.jsonl").exists()


def test_init_counts_rows_that_are_no_records(trainkit: Run, tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b"}, {"instruction": 1, "output": "b"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = trainkit("init", "made", "--data", "rows.jsonl", "--vocab-size", "300", "--hidden-size", "32", "--json")
    assert (ran.json["rows_in"], ran.json["rows_out"]) == (2, 1)
    assert 'field "instruction": text belongs here, not a number' in ran.err


def test_init_on_a_full_disk_leaves_nothing_and_ends_with_3(
    trainkit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from safetensors import SafetensorError
    from transformers import PreTrainedModel

    def full(*arguments: Any, **options: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    (tmp_path / "rows.jsonl").write_text('{"text": "a word or two"}\n')
    ran = trainkit("init", "made", "--data", "rows.jsonl", "--vocab-size", "300", "--hidden-size", "32")
    assert ran.code == 3
    assert "the disk is full while saving the model" in ran.err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("text", ["x", "[]"])
def test_a_damaged_adapter_config_is_named(trainkit: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(text)
    ran = trainkit("chat", "adapter", "--prompt", "hi")
    assert ran.code == 2
    assert "adapter_config.json is not a JSON object" in ran.err


def test_an_adapter_folder_without_weights_is_refused_and_not_looked_for_on_a_hub(
    trainkit: Run, config_file: Run, tmp_path: Path
) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    ran = trainkit("run", config_file(finetuning_type="lora", adapter_name_or_path="adapter"))
    assert ran.code == 2
    assert "the adapter folder holds no weights" in ran.err


def test_a_prompt_that_is_not_utf8_ends_with_2(trainkit: Run, model_folder: Path) -> None:
    ran = trainkit("chat", model_folder, "--prompt", "\udcff\udcfe")
    assert ran.code == 2
    assert "the text is not UTF-8" in ran.err


def test_a_template_that_refuses_a_question_is_told(trainkit: Run, model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ raise_exception('no') }}")
    ran = trainkit("chat", "model", "--prompt", "hi")
    assert ran.code == 2
    assert "the tokenizer's chat template refuses this conversation: no" in ran.err


@pytest.mark.parametrize("source", ["{{ 1 // 0 }}", "{{ range(10**12) }}", "{{ messages[9].content }}"])
def test_whatever_goes_wrong_in_a_template_is_a_fault_of_the_row(source: str) -> None:
    with pytest.raises(RowFault, match="refuses this conversation"):
        OwnTemplate(source).render([], add_generation_prompt=True)


def test_an_empty_source_is_not_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.sources import expand_sources

    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="a source has an empty name"):
        expand_sources([""])


def test_weights_that_lack_layers_are_refused_and_not_made_up(
    trainkit: Run, config_file: Run, model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    config |= {"num_hidden_layers": 4, "layer_types": config["layer_types"] * 2}
    path.write_text(json.dumps(config))
    ran = trainkit("run", config_file(model_name_or_path=str(tmp_path / "model")))
    assert ran.code == 2
    assert "the weights lack 24 of the model's tensors, e.g. model.layers.2." in ran.err
