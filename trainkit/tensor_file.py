"""Tensors into a .safetensors file in small writes, so that a thread can save while another one trains."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import torch

CHUNK = 8 << 20  # bytes between two looks at ``check``
SYNC_EVERY = 256 << 20  # bytes that may wait for the disk; all of them at the end would stall other writers for long
# The format's names for torch's types (safetensors, format.md).
DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL", "uint16": "U16", "uint32": "U32", "uint64": "U64",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds once it is on the disk."""

    num_bytes: int
    sha256: str


class _Hashed:
    """A file that hashes what passes, and lets go of the interpreter while it writes."""

    def __init__(self, handle: BinaryIO, check: Callable[[], None]) -> None:
        self._handle, self._check = handle, check
        self._digest, self.num_bytes, self._synced = hashlib.sha256(), 0, 0

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), CHUNK):
            self._check()
            part = view[start : start + CHUNK]
            left = part
            while len(left):  # the system may take less than it is given
                left = left[self._handle.write(left) :]
            self._digest.update(part)
            self.num_bytes += len(part)
            if self.num_bytes - self._synced >= SYNC_EVERY:
                os.fsync(self._handle.fileno())
                self._synced = self.num_bytes

    def end(self) -> Written:
        self._handle.flush()
        os.fsync(self._handle.fileno())
        return Written(self.num_bytes, self._digest.hexdigest())


def nothing_to_check() -> None:
    """The ``check`` of a write that nobody will break off."""


def write_bytes(path: Path, data: bytes, *, check: Callable[[], None] = nothing_to_check) -> Written:
    """Write ``data`` and wait until the disk has it. Raises ``OSError`` as the system gives it."""
    with path.open("wb", buffering=0) as handle:
        hashed = _Hashed(handle, check)
        hashed.write(data)
        return hashed.end()


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], *, check: Callable[[], None] = nothing_to_check
) -> Written:
    """Write CPU tensors as safetensors (github.com/safetensors/safetensors, README "Format") and wait for the disk.

    The library's own writer keeps the interpreter to itself until the file is complete, which would hold up the steps
    meanwhile. ``check`` is called before every few megabytes; what it raises breaks the writing off. Raises ``OSError``
    as the system gives it.
    """
    # wide types first, so that each tensor starts at a multiple of its own width
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        dtype = DTYPES[str(tensor.dtype).removeprefix("torch.")]
        head[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb", buffering=0) as handle:
        hashed = _Hashed(handle, check)
        hashed.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            hashed.write(_bytes_of(tensors[name]))
        return hashed.end()


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a CPU tensor, row by row, without a copy where it lies so already."""
    import torch

    flat: Any = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)
