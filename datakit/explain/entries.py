"""Under which names a file is registered, in the dataset_info.json files that lie near it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datakit.lineage.steps import shortest
from datakit.register.books import read_notes
from registry.datasets import FILE_NAME, Layout, parse_entry, read_dataset_info
from registry.errors import UsageError
from registry.manifest import sha256_of
from registry.remote import is_remote

DATA_DIR = "data"  # where dataset_info.json is looked for when nothing else is said, as by register


@dataclass(frozen=True, slots=True)
class Registered:
    """One entry: its name, told with the place of its dataset_info.json, and how it has rows read."""

    told: str
    layout: Layout


def entries_of(path: str) -> list[Registered]:
    """The entries that name ``path``, or the folder it lies in; of files that cannot be read, none."""
    if is_remote(path) or not Path(path).is_file():
        return []
    return [entry for folder in _folders(Path(path)) for entry in _entries_in(folder, Path(path))]


def _folders(path: Path) -> list[Path]:
    """The file's folder and the two above it, the current one, and what register takes by default."""
    whole = path.absolute()
    likely = [*list(whole.parents)[:3], whole.parent / DATA_DIR, Path(), Path(DATA_DIR)]
    found = {folder.resolve(): folder for folder in likely if (folder / FILE_NAME).is_file()}
    return [Path(shortest(folder)) for folder in found.values()]


def _entries_in(folder: Path, path: Path) -> Iterator[Registered]:
    try:
        known = read_dataset_info(folder)
    except UsageError:
        return
    notes = read_notes(folder)
    for name, raw in known.items():
        try:
            entry = parse_entry(name, raw, folder)
            named = entry.path.resolve()
        except (UsageError, OSError):
            continue
        if named in (path.resolve(), path.resolve().parent):
            changed = ", and the file has changed since" if _has_changed(notes.get(name), path) else ""
            yield Registered(f'"{name}" in {folder / FILE_NAME}{changed}', entry.layout)


def _has_changed(note: Any, path: Path) -> bool:
    inputs = note.get("inputs") if isinstance(note, Mapping) else None
    for one in inputs if isinstance(inputs, list) else []:
        if isinstance(one, Mapping) and Path(str(one.get("file"))).name == path.name:
            return one.get("sha256") not in (None, sha256_of(path))
    return False
