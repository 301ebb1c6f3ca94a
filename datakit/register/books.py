"""dataset_info.json.manifest.json: what stood behind each entry when it was registered. The entries themselves hold
LLaMA-Factory's keys only."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock

from registry.atomic import write_json
from registry.datasets import FILE_NAME, read_dataset_info
from registry.manifest import MANIFEST_VERSION, Ledger, build_manifest, manifest_path

KEY = "datasets"


def write_note(
    name: str,
    options: Mapping[str, Any],
    files: Sequence[str],
    ledger: Ledger,
    details: Mapping[str, Any],
    folder: Path,
) -> Path:
    """Note tool, options, the files with their hashes, and what was proven, for one entry; the notes of others stay.

    Notes of entries that are gone are dropped. Raises ``OSError`` as the system gives it.
    """
    note = build_manifest("register", options, files, ledger) | {"details": dict(details)}
    path = manifest_path(folder / FILE_NAME)
    with FileLock(folder / f".{FILE_NAME}.lock"):
        known = read_notes(folder)
        entries = read_dataset_info(folder)
        notes = {other: kept for other, kept in known.items() if other in entries} | {name: note}
        write_json(path, {"manifest_version": MANIFEST_VERSION, KEY: notes})
    return path


def read_notes(folder: Path) -> dict[str, Any]:
    """The notes by the names of their entries; none where there is no such file, or it is damaged."""
    with contextlib.suppress(OSError, orjson.JSONDecodeError):
        raw = orjson.loads(manifest_path(folder / FILE_NAME).read_bytes())
        if isinstance(raw, dict) and raw.get("manifest_version") == MANIFEST_VERSION and isinstance(raw.get(KEY), dict):
            return raw[KEY]
    return {}
