"""Runs datakit as its console script does, in this process, and checks after each run what holds for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from datakit.cli import main
from tests.console import Ran, console


@pytest.fixture
def datakit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ran]:
    """``datakit(VERB, …)`` within ``tmp_path``, in this process."""
    return console("datakit", main, monkeypatch, capfd, tmp_path)


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """``write_rows("a.jsonl", {...}, {...})`` as JSON lines within ``tmp_path``."""

    def write(name: str, *rows: dict[str, Any]) -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        return path

    return write


@pytest.fixture
def read_rows_back(tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """The rows of a JSONL file within ``tmp_path``."""
    return lambda name: [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte-level tokenizer that knows no merges, and a model limit of 256."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    (folder / "config.json").write_text('{"max_position_embeddings": 256}')
    return folder
