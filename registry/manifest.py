"""OUT.manifest.json: what made a file, from what, and where every row went."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from registry.atomic import write_json
from registry.digest import Digests, sha256_of
from registry.remote import fingerprint, is_remote
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


@dataclass
class Ledger:
    """Counts every row of one command: ``rows_in + added = rows_out + rejected + filtered``, always.

    ``filtered`` rows were left out because that was asked for, by the option that did; ``added`` counts the rows that
    one row made beyond the first.
    """

    rows_in: int = 0
    rows_out: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    added: int = 0
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
        filtered = self.filtered.total()
        if self.rows_in + self.added != self.rows_out + self.num_rejected + filtered:
            raise AssertionError(
                f"{self.rows_in} rows in, {self.rows_out} out, {self.num_rejected} rejected, {filtered} filtered, "
                f"{self.added} added"
            )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def build_manifest(
    command: str,
    options: Mapping[str, Any],
    files: Sequence[str],
    ledger: Ledger,
    outputs: Sequence[str | Path] = (),
    digests: Digests | None = None,
) -> dict[str, Any]:
    """The manifest as a mapping: tool, command and options (secrets left out), inputs, outputs, and the ledger.

    ``digests`` are hashes of the inputs that were begun earlier.
    """
    ledger.check()
    inputs = [{"file": file, "rows": ledger.by_file[file], **_identity(file, digests)} for file in dict.fromkeys(files)]
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
        "filtered": dict(ledger.filtered.most_common()),
        "rows_added": ledger.added,
        "seconds": round(ledger.seconds, 3),
    }


def _identity(file: str, digests: Digests | None) -> dict[str, Any]:
    """What tells the content of an input: its size and hash. Of stdin nothing is left to tell."""
    if file == STDIN:
        return {}
    if is_remote(file):
        return fingerprint(file)
    return {"bytes": Path(file).stat().st_size, "sha256": digests.of(file) if digests else sha256_of(file)}


def write_manifest(out: str | Path, manifest: Mapping[str, Any]) -> Path:
    """Write ``manifest`` beside ``out``, whole or not at all."""
    path = manifest_path(out)
    write_json(path, manifest)
    return path
