"""Our own writing of .safetensors: read back by the library, equal to what the library writes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainkit import tensor_file
from trainkit.tensor_file import write_bytes, write_tensors

MIXED = {
    "weight": torch.arange(15.0).reshape(3, 5),
    "step": torch.tensor(7.0),
    "half": torch.tensor([1.5, -2.0, 3.25]).bfloat16(),
    "none": torch.zeros(0, 3),
    "mask": torch.tensor([True, False, True]),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "wide": torch.arange(3, dtype=torch.int64),
    "größe": torch.ones(2, dtype=torch.float16),
}


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    written = write_tensors(tmp_path / "ours.safetensors", MIXED)
    read = load_file(tmp_path / "ours.safetensors")
    assert read.keys() == MIXED.keys()
    assert all(read[k].dtype == v.dtype and torch.equal(read[k], v) for k, v in MIXED.items())
    content = (tmp_path / "ours.safetensors").read_bytes()
    assert (written.num_bytes, written.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_library_writes_the_same(tmp_path: Path) -> None:
    plain = {name: MIXED[name] for name in ("step", "weight", "none", "wide")}
    write_tensors(tmp_path / "ours.safetensors", plain)
    save_file(plain, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_a_transposed_tensor_is_written_row_by_row(tmp_path: Path) -> None:
    turned = torch.arange(6.0).reshape(2, 3).t()
    write_tensors(tmp_path / "x.safetensors", {"x": turned})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["x"], turned)


def test_writing_is_broken_off_between_two_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "CHUNK", 16)
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "x", b"a" * 160, check=check)
    assert (tmp_path / "x").stat().st_size == 64


def test_many_chunks_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "CHUNK", 7)
    monkeypatch.setattr(tensor_file, "SYNC_EVERY", 20)
    written = write_tensors(tmp_path / "x.safetensors", MIXED)
    assert all(torch.equal(v, MIXED[k]) for k, v in load_file(tmp_path / "x.safetensors").items())
    assert written.sha256 == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
