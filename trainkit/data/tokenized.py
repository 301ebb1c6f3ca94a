"""tokenized_path: encoded datasets in a folder of one's own, to be trained on where the rows themselves may be gone."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.atomic import write_json
from registry.encoded.build import SPEC, copy_rows
from registry.encoded.rows import EncodedRows
from registry.encoded.shard import damaged
from registry.encoded.spec import FORMAT_VERSION, EncodeSpec, contents_of, differences
from registry.errors import UsageError

log = logging.getLogger("tunekit")

CONTENTS = "tokenized.json"


def is_tokenized(folder: Path) -> bool:
    """Whether ``folder`` holds encoded datasets."""
    return (folder / CONTENTS).is_file()


def may_fill(folder: Path) -> bool:
    """Whether encoded rows can be put into ``folder``: it is not there, empty, holds such rows, or was left by a run
    that was stopped before it wrote what it fills last, the list of contents."""
    if not folder.is_dir() or is_tokenized(folder):
        return True
    return all(
        (path.is_dir() and re.fullmatch("[0-9a-f]{24}", path.name)) or path.name.startswith(f".{CONTENTS}")
        for path in folder.iterdir()
    )


def saved_files(folder: Path) -> dict[str, list[str]]:
    """The files from which each dataset in ``folder`` was made; none where it holds no encoded rows."""
    if not is_tokenized(folder):
        return {}
    return {name: entry["files"] for name, entry in _read(folder / CONTENTS, "datasets")["datasets"].items()}


def only_read(tokenized_path: str | None) -> str | None:
    """``tokenized_path`` for a command that is to leave nothing behind: None where a run would write it."""
    folder = Path(tokenized_path) if tokenized_path else None
    return tokenized_path if folder is not None and folder.is_dir() and any(folder.iterdir()) else None


def save_tokenized(folder: Path, sets: Mapping[str, EncodedRows]) -> None:
    """Put the encoded rows of each dataset into ``folder``, with what they were made from."""
    held: dict[str, Any] = {}
    for name, rows in sets.items():
        copy_rows(rows.folder, folder / rows.folder.name)
        held[name] = {"folder": rows.folder.name, "files": list(rows.files), "rows": len(rows)}
    write_json(folder / CONTENTS, {"format": FORMAT_VERSION, "datasets": held})
    log.info("the encoded rows are in %s", folder)


def open_tokenized(
    folder: Path, specs: Mapping[str, EncodeSpec], limits: Mapping[str, int | None] | None = None
) -> dict[str, EncodedRows] | None:
    """The encoded rows of each dataset of a run; None where ``folder`` is empty or not there yet, or was left by a run
    that was stopped before it had filled it.

    LLaMA-Factory trains on whatever lies there. Here the rows must have been made by the same template, tokenizer and
    settings, and be as many as ``limits`` ask for (None, or no entry: all). Raises ``UsageError`` that tells what
    differs, or that the folder holds something else.
    """
    if not is_tokenized(folder):
        if not may_fill(folder):
            raise UsageError(
                "the folder holds something, but no encoded rows of this tool",
                where=f"tokenized_path {folder}",
                mend="What LLaMA-Factory saved does not tell by which template and tokenizer it was made, so it cannot "
                "be checked. Name another folder: the rows are encoded anew, many times faster.",
            )
        return None
    held = _read(folder / CONTENTS, "datasets")
    if held.get("format") != FORMAT_VERSION:
        raise UsageError(
            f"the encoded rows have format {held.get('format')}, and {FORMAT_VERSION} is read",
            where=f"tokenized_path {folder}",
            mend="Remove the folder; they are encoded anew.",
        )
    missing = [name for name in specs if name not in held["datasets"]]
    if missing:
        raise UsageError(
            f"it holds no rows of {', '.join(missing)}",
            where=f"tokenized_path {folder}",
            mend=f"It holds: {', '.join(held['datasets'])}. Name another folder, or remove this one.",
        )
    limits = limits or {}
    return {
        name: _checked(folder, name, held["datasets"][name], spec, limits.get(name)) for name, spec in specs.items()
    }


def _read(path: Path, key: str) -> dict[str, Any]:
    """The JSON object in a file of ours. Raises ``UsageError`` where it is none, or lacks ``key``."""
    try:
        held = json.loads(path.read_bytes())
        if isinstance(held, dict) and key in held:
            return held
    except (OSError, ValueError):
        pass
    raise damaged(path, "it is not what was written there")


def _checked(folder: Path, name: str, entry: Mapping[str, Any], spec: EncodeSpec, limit: int | None) -> EncodedRows:
    made = _read(folder / entry["folder"] / SPEC, "contents")
    there = all(Path(file).is_file() for file in spec.files)
    contents = contents_of(spec.files, folder) if there else made["contents"]
    faults = differences(spec.identity(contents), made)
    if contents != made["contents"]:
        faults.append("the rows: the files of the dataset have changed since")
    if faults:
        told = "\n  ".join(faults)
        raise UsageError(
            f"the rows of {name} were encoded otherwise than this run asks for:\n  {told}",
            where=f"tokenized_path {folder}",
            mend="Set the config as it was, or name another folder (or none: the cache keeps both).",
        )
    rows = EncodedRows(folder / entry["folder"], entry["files"])
    if len(rows) != entry["rows"]:
        raise damaged(rows.folder, f"it holds {len(rows)} rows, and {entry['rows']} were written")
    if not rows.complete and (limit is None or len(rows) < limit):
        raise UsageError(
            f"of {name} it holds the first {len(rows):,} rows alone, and this run asks for {limit or 'all of them'}",
            where=f"tokenized_path {folder}",
            mend="It was made with a lower max_samples. Set that again, or name another folder.",
        )
    return rows
