"""The command that made a file, as its manifest tells it, believed only as far as the files still are what it says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from registry.digest import sha256_of
from registry.errors import TunekitError
from registry.manifest import MANIFEST_VERSION, manifest_path
from registry.remote import fingerprint, is_remote
from registry.sources import STDIN

MANIFEST_ENDING = ".manifest.json"


class RoadEnds(Exception):
    """Why a row cannot be followed any further; the text is for people."""


@dataclass(frozen=True, slots=True)
class Told:
    """One file as a manifest tells it: its name at that time, and what pinned its content (``sha256``, ``etag`` …)."""

    file: str
    rows: int | None = None
    marks: Mapping[str, Any] = field(default_factory=dict)
    is_rejects: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and ``file``, which is (a part of) what it made."""

    file: str
    manifest: Path
    command: str
    tool: str
    options: Mapping[str, Any]
    details: Mapping[str, Any]
    inputs: tuple[Told, ...]
    outputs: tuple[Told, ...]
    rows_in: int
    rows_out: int
    rejected: Mapping[str, int]
    filtered: Mapping[str, int]  # rows left out as asked, by the option that did
    rows_added: int
    rows_before: int  # rows of the output that stand in shards before this file
    folder: Path  # where the command ran, as far as the names in the manifest show it
    is_rejects: bool = False  # ``file`` holds what was rejected

    def find(self, told: Told) -> str:
        """Where a file of this manifest lies now, with the very content it had. Raises ``RoadEnds``."""
        if told.file == STDIN:
            raise RoadEnds("its rows came from stdin, of which nothing is left")
        if is_remote(told.file):
            return _unchanged_remote(told)
        there = [path for path in self._places(told.file) if Path(path).is_file()]
        if not there:
            raise RoadEnds(f"{told.file} is not there any more")
        wanted = told.marks.get("sha256")
        found = next((path for path in there if wanted is None or _hash_of(path) == wanted), None)
        if found is None:
            raise RoadEnds(f"{there[0]} has changed since: it is not what was read (its SHA-256 is another)")
        return found

    def _places(self, name: str) -> Iterator[str]:
        """Where a file of this name may lie: as seen from where the command ran, from here, or beside the manifest."""
        if Path(name).is_absolute():
            yield name
        for folder in (self.folder, Path(), self.manifest.parent):
            yield shortest(folder / name)
        yield shortest(self.manifest.parent / Path(name).name)


def shortest(path: str | Path) -> str:
    """A path as people write it: relative to the current folder where it lies in there."""
    inside = os.path.relpath(path)
    return _whole(path) if inside.startswith("..") else inside


def _whole(path: str | Path) -> str:
    return os.path.normpath(Path(path).absolute())


def step_of(file: str) -> Step | None:
    """The command that made ``file``; None where no manifest speaks of it.

    Raises ``RoadEnds`` where one does and cannot be believed: the file has changed since, the manifest is damaged.
    """
    if file == STDIN or is_remote(file):
        return None
    own = manifest_path(file)
    for path in [own] if own.is_file() else sorted(Path(file).parent.glob(f"*{MANIFEST_ENDING}")):  # shards share one
        raw = _read(path, must=path == own)
        outputs = _files(raw.get("outputs"))
        at = next((i for i, told in enumerate(outputs) if Path(told.file).name == Path(file).name), None)
        if at is None:
            continue
        if raw.get("manifest_version") != MANIFEST_VERSION:
            raise RoadEnds(f"{path} is of format version {raw.get('manifest_version')}, not {MANIFEST_VERSION}")
        if _hash_of(file) != outputs[at].marks.get("sha256"):
            raise RoadEnds(f"{file} has changed since it was made (its SHA-256 is not the one in {path.name})")
        return _step(file, path, raw, at)
    return None


def _read(path: Path, *, must: bool) -> dict[str, Any]:
    try:
        raw = orjson.loads(path.read_bytes())
        if isinstance(raw, dict):
            return raw
        reason = "it holds no object"
    except (OSError, orjson.JSONDecodeError) as error:
        reason = str(error)
    if must:
        raise RoadEnds(f"{path} cannot be read: {reason}")
    return {}


def _step(file: str, path: Path, raw: Mapping[str, Any], at: int) -> Step:
    outputs = _files(raw["outputs"])
    try:
        return Step(
            file, path, str(raw["command"]), str(raw["tool"]), dict(raw["options"]), dict(raw.get("details") or {}),
            _files(raw["inputs"]), outputs, int(raw["rows_in"]), int(raw["rows_out"]), dict(raw["rejected"]),
            dict(raw.get("filtered") or {}), int(raw.get("rows_added") or 0),
            at * int(raw.get("shard_rows") or 0), _folder_of(file, outputs[at].file), outputs[at].is_rejects,
        )  # fmt: skip
    except (LookupError, TypeError, ValueError) as error:
        raise RoadEnds(f"{path} is no manifest of ours: {type(error).__name__}: {error}") from None


def _files(raw: Any) -> tuple[Told, ...]:
    found = []
    for one in raw if isinstance(raw, list) else []:
        if isinstance(one, dict) and isinstance(one.get("file"), str):
            rows = one.get("rows")
            marks = {key: value for key, value in one.items() if key not in ("file", "rows", "rejects")}
            found.append(Told(one["file"], rows if isinstance(rows, int) else None, marks, one.get("rejects") is True))
    return tuple(found)


def _folder_of(file: str, told: str) -> Path:
    """Where a command ran that called ``file`` by the name ``told``: ``/a/b/out/x`` told as ``out/x`` says ``/a/b``."""
    whole, named = Path(_whole(file)), Path(os.path.normpath(told))
    if named.is_absolute() or whole.parts[-len(named.parts) :] != named.parts:
        return Path()
    return Path(*whole.parts[: -len(named.parts)])


def _hash_of(path: str) -> str:
    found = Path(path).stat()
    return _hash_once(_whole(path), found.st_size, found.st_mtime_ns)


@cache
def _hash_once(path: str, size: int, changed_ns: int) -> str:
    return sha256_of(path)


def _unchanged_remote(told: Told) -> str:
    try:
        now = fingerprint(told.file)
    except (TunekitError, OSError) as error:
        raise RoadEnds(f"{told.file} cannot be looked at: {error}") from None
    if any(now[key] != value for key, value in told.marks.items() if key in now):
        raise RoadEnds(f"{told.file} has changed since: it is not what was read")
    return told.file
