"""A tokenizer of single bytes as a model folder has it, datasets of a few rows, and chunks so small that they are many."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from registry.blocks import read_blocks
from registry.datasets import Layout
from registry.encoded import chunks
from registry.encoded.rows import EncodedRows
from registry.encoded.spec import EncodeSpec
from registry.render import RenderRules

SPECIALS = ("<bos>", "<eos>", "<pad>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")


def save_tokenizer(folder: Path, specials: Sequence[str] = SPECIALS) -> Path:
    """A byte-level tokenizer without merges: a token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={sign: number for number, sign in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(specials))
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("models") / "bytes")


MakeSpec = Callable[..., EncodeSpec]


@pytest.fixture
def spec(tokenizer_folder: Path) -> MakeSpec:
    """``spec("a.jsonl", strict=True)``: alpaca rows of these files for sft by chatml, with changes."""

    def make(*files: str | Path, **changes: Any) -> EncodeSpec:
        given: dict[str, Any] = {
            "kind": "turns", "layout": Layout(), "tokenizer_folder": str(tokenizer_folder), "template": "chatml",
            "rules": RenderRules(), **changes,
        }  # fmt: skip
        return EncodeSpec(files=tuple(map(str, files)), **given)

    return make


def alpaca_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Rows that differ, and that take different ways: with a history, with none, and one in nine that is none."""
    return [
        {"instruction": f"Question {n}?", "input": "é" * (n % 3), "output": "yes" * (n % 5)}
        | ({"output": n} if n % 9 == 4 else {})
        | ({"history": [["before", "it"]]} if n % 4 == 1 else {})
        for n in range(first, first + count)
    ]


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are cut into chunks of a few rows each."""
    monkeypatch.setattr(chunks, "ONE_CHUNK", 10)
    monkeypatch.setattr(chunks, "PIECES", 1)
    monkeypatch.setattr(chunks, "read_blocks", partial(read_blocks, size=300))
    monkeypatch.setattr("registry.blocks.GATHERED_ROWS", 4)


def listed(rows: EncodedRows) -> list[tuple[list[int], list[int], str | None]]:
    """Ids, part lengths and the reason of the fault of each row, in order."""
    found = []
    for number in range(len(rows)):
        ids, parts = rows.row(number)
        fault = rows.fault(number)
        found.append((ids.tolist(), parts, fault and fault.reason))
    return found
