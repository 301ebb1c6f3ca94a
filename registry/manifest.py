"""OUT.manifest.json: what made a file, from what, and where every row went."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from registry.atomic import write_json
from registry.secrets import is_secret
from registry.sources import STDIN

MANIFEST_VERSION = 1


def tool_version() -> str:
    """The installed version of tunekit, or ``"source"`` for a bare checkout."""
    try:
        return version("tunekit")
    except PackageNotFoundError:
        return "source"


def manifest_path(out: str | Path) -> Path:
    """``data.jsonl`` → ``data.jsonl.manifest.json``; a folder's manifest lies beside it likewise."""
    out = Path(out)
    return out.with_name(out.name + ".manifest.json")


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass
class Ledger:
    """Counts every row of one command: ``rows_in = rows_out + rejected``, always."""

    rows_in: int = 0
    rows_out: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    by_file: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    @property
    def num_rejected(self) -> int:
        return self.rejected.total()

    def read(self, file: str, count: int = 1) -> None:
        """``count`` more rows were read from ``file``."""
        self.rows_in += count
        self.by_file[file] += count

    def check(self) -> None:
        """Raise ``AssertionError`` where a row went missing: that is a fault of ours, never of the data."""
        if self.rows_in != self.rows_out + self.num_rejected:
            raise AssertionError(f"{self.rows_in} rows in, {self.rows_out} out, {self.num_rejected} rejected")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def build_manifest(
    command: str, options: Mapping[str, Any], files: Sequence[str], ledger: Ledger, outputs: Sequence[str | Path] = ()
) -> dict[str, Any]:
    """The manifest as a mapping: tool, command and options (secrets left out), inputs, outputs, and the ledger."""
    ledger.check()
    inputs = [
        {"file": file, "rows": ledger.by_file[file]}
        if file == STDIN
        else {"file": file, "bytes": Path(file).stat().st_size, "rows": ledger.by_file[file], "sha256": sha256_of(file)}
        for file in files
    ]
    return {
        "manifest_version": MANIFEST_VERSION,
        "tool": f"tunekit {tool_version()}",
        "command": command,
        "options": {k: v for k, v in options.items() if not is_secret(k)},
        "inputs": inputs,
        "outputs": [{"file": str(p), "bytes": Path(p).stat().st_size, "sha256": sha256_of(p)} for p in outputs],
        "rows_in": ledger.rows_in,
        "rows_out": ledger.rows_out,
        "rejected": dict(ledger.rejected.most_common()),
        "seconds": round(ledger.seconds, 3),
    }


def write_manifest(out: str | Path, manifest: Mapping[str, Any]) -> Path:
    """Write ``manifest`` beside ``out``, whole or not at all."""
    path = manifest_path(out)
    write_json(path, manifest)
    return path
