"""A model from scratch: an ordinary Hugging Face folder whose tokenizer gives back any text."""

from __future__ import annotations

import json
import os
import signal
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from registry.templates import template_names
from registry.tokenizer import Tokenizer

Run = Callable[..., Any]
SMALL = ("--vocab-size", 320, "--hidden-size", 16, "--layers", 1, "--heads", 2, "--max-length", 64)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> Tokenizer:
    return Tokenizer(model_folder)


@given(TEXTS)
def test_any_text_comes_back_from_its_ids(tokenizer: Tokenizer, text: str) -> None:
    (ids,) = tokenizer.encode_batch([text])
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


@given(TEXTS)
def test_plain_transformers_gives_the_same_ids(tokenizer: Tokenizer, theirs: Any, text: str) -> None:
    assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode_batch([text])[0]


@pytest.fixture(scope="module")
def theirs(model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder)


def test_the_rows_shaped_the_vocabulary(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.encode_batch([" lighthouse"])
    assert len(ids) < 5  # eleven bytes
    assert tokenizer.size == 400


def test_plain_transformers_loads_the_model_and_stops_where_a_turn_ends(model_folder: Path, theirs: Any) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    assert model.config.model_type == "qwen2"
    assert model.get_input_embeddings().weight.shape == (400, 32)
    assert model.config.eos_token_id == theirs.eos_token_id == theirs.convert_tokens_to_ids("<|im_end|>")
    assert theirs.model_max_length == model.config.max_position_embeddings == 128


def test_the_chat_template_spells_turns_as_training_does(theirs: Any) -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_command_says_what_it_made_and_from_what(trainkit: Run, data_folder: Path, tmp_path: Path) -> None:
    rows = data_folder / "questions.jsonl"
    found = trainkit("init", "made", "--data", rows, *SMALL, "--arch", "llama", "--json").json
    weights = load_file(tmp_path / "made" / "model.safetensors")
    assert found["parameters"] == sum(t.numel() for t in weights.values())
    assert (found["rows_in"], found["rows_out"], found["rejected"]) == (24, 24, {})
    manifest = json.loads((tmp_path / "made.manifest.json").read_text("utf-8"))
    assert manifest["inputs"][0]["file"] == str(rows)
    assert len(manifest["inputs"][0]["sha256"]) == 64
    assert json.loads((tmp_path / "made" / "config.json").read_text())["model_type"] == "llama"


def test_the_same_seed_draws_the_same_model_and_another_seed_another(
    trainkit: Run, data_folder: Path, tmp_path: Path
) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        assert trainkit("init", name, "--data", data_folder / "pages.txt", *SMALL, "--seed", seed).code == 0
    one, two, three = (
        load_file(tmp_path / name / "model.safetensors")["model.embed_tokens.weight"]
        for name in ("one", "two", "three")
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert (tmp_path / "one" / "tokenizer.json").read_bytes() == (tmp_path / "three" / "tokenizer.json").read_bytes()


def test_broken_rows_are_counted(trainkit: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a word or two"}\n{"text": \n')
    found = trainkit("init", "made", "--data", "rows.jsonl", *SMALL, "--json").json
    assert (found["rows_in"], found["rows_out"], sum(found["rejected"].values())) == (2, 1, 1)


def test_only_a_model_of_ours_is_replaced_and_only_when_forced(
    trainkit: Run, data_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "thesis.txt").write_text("do not touch")
    rows = ("--data", data_folder / "pages.txt")
    ran = trainkit("init", "made", *rows, *SMALL)
    assert ran.code == 2
    assert "made: the folder is not empty\n  Choose another, or add --force" in ran.err
    assert (tmp_path / "made" / "thesis.txt").exists()
    assert "so this is no model that init or export made" in trainkit("init", "made", *rows, *SMALL, "--force").err
    assert (tmp_path / "made" / "thesis.txt").exists()
    assert trainkit("init", "other", *rows, *SMALL).code == 0
    assert trainkit("init", "other", *rows, *SMALL).code == 2
    assert trainkit("init", "other", *rows, *SMALL, "--force").code == 0


def test_a_file_in_the_way_and_missing_rows_end_with_2(trainkit: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is a file, and a folder is needed" in trainkit("init", "file", "--data", "x.jsonl", *SMALL).err
    ran = trainkit("init", "made", "--data", "nowhere.jsonl", *SMALL)
    assert (ran.code, "nowhere.jsonl: no such file or folder" in ran.err) == (2, True)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("template", template_names())
def test_a_model_can_be_made_for_every_template(
    trainkit: Run, data_folder: Path, tmp_path: Path, template: str
) -> None:
    assert trainkit("init", "made", "--data", data_folder / "pages.txt", *SMALL, "--template", template).code == 0
    tokenizer = Tokenizer(tmp_path / "made")
    assert tokenizer.eos_id is not None
    assert tokenizer.chat_template


def test_ctrl_c_leaves_nothing(
    trainkit: Run, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    save = transformers.PreTrainedModel.save_pretrained

    def interrupted(self: Any, folder: Path, **options: Any) -> None:
        save(self, folder, **options)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", interrupted)
    ran = trainkit("init", "made", "--data", data_folder / "pages.txt", *SMALL)
    assert ran.code == 130
    assert not (tmp_path / "made").exists()
