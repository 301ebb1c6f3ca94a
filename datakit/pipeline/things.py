"""What steps read and make (files, folders, entries of dataset_info.json), and hashes that tell whether it changed."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson

from registry.datasets import FILE_NAME, find_entry, read_dataset_info
from registry.digest import sha256_of
from registry.errors import UsageError
from registry.remote import content_key, is_remote
from registry.sources import expand_sources

# A file changed again within this time of being hashed could keep its size and time stamp: do not trust the cache.
RACY_NS = 50_000_000
PASSED_OVER = ("checkpoint-*", "logs", "runs", "*.log", "trainer_log.jsonl", ".*", "*.lock", "__pycache__")


@dataclass(frozen=True, slots=True)
class Thing:
    """One input or output, by its path from the pipeline's folder.

    ``kind`` is ``data`` (files, folders and globs as SRC means them), ``path`` (a file or folder with all in it),
    ``entry`` (the entry called ``entry`` in the dataset_info.json at ``path``) or ``recipe`` (a shipped one, by name).
    """

    path: str
    kind: Literal["data", "path", "entry", "recipe"] = "path"
    entry: str = ""

    @property
    def label(self) -> str:
        """What people call it."""
        if self.kind == "recipe":
            return f"recipe {self.path}"
        return f"{self.path} ({self.entry})" if self.kind == "entry" else self.path


def thing(path: str, kind: Literal["data", "path"] = "path") -> Thing:
    """A file, folder or glob; ``./a`` and ``a/`` are ``a``."""
    return Thing(os.path.normpath(path) if "://" not in path else path, kind)


def entry_of(dataset_dir: str, name: str) -> Thing:
    """The entry called ``name`` in ``dataset_dir``'s dataset_info.json."""
    return Thing(os.path.normpath(Path(dataset_dir, FILE_NAME)), "entry", name)


def entry_and_data(dataset_dir: str, name: str) -> list[Thing]:
    """The entry called ``name``, and the rows it points at as far as it can be read already."""
    found = [entry_of(dataset_dir, name)]
    with contextlib.suppress(UsageError):  # no such entry yet, or unreadable: the step that needs it will say so
        found += [thing(source, "data") for source in find_entry(name, dataset_dir).sources]
    return found


def makes(made: Thing, wanted: Thing) -> bool:
    """Whether an output ``made`` is, holds, lies in, or matches the input ``wanted``."""
    if {"entry", "recipe"} & {made.kind, wanted.kind}:
        return made == wanted
    if made.path == wanted.path or fnmatch.fnmatchcase(made.path, wanted.path):
        return True
    return made.path.startswith(wanted.path + os.sep) or wanted.path.startswith(made.path + os.sep)


def is_there(wanted: Thing) -> bool:
    """Whether an input exists now; what lies on another machine counts as there."""
    if wanted.kind == "entry":
        return _entry(wanted) is not None
    if wanted.kind == "recipe":
        return _recipe(wanted) is not None
    if "://" in wanted.path or Path(wanted.path).exists():
        return True
    return glob.has_magic(wanted.path) and bool(glob.glob(wanted.path, recursive=True))  # as SRC does


@dataclass
class Hashes:
    """SHA-256 of files, remembered by (path, size, time of change in ns) from run to run."""

    known: dict[str, list[int | str]] = field(default_factory=dict)

    def of(self, one: Thing) -> str | None:
        """The hash of all content of ``one``; None where it is not there."""
        if one.kind == "entry":
            entry = _entry(one)
            return None if entry is None else hashlib.sha256(entry).hexdigest()
        if one.kind == "recipe":
            return _recipe(one)
        if one.kind == "data":
            try:
                files = expand_sources([one.path])
            except UsageError:
                return None
        elif Path(one.path).is_dir():
            files = sorted(_files_in(one.path))
        else:
            files = [one.path]
        if files == [one.path]:
            return self._file(one.path)
        whole = hashlib.sha256()
        for file in files:
            whole.update(orjson.dumps([os.path.relpath(file, one.path), self._file(file)]))
        return whole.hexdigest()

    def forget_what_is_gone(self) -> None:
        """Keep no hash of a file that is not there any more."""
        for path in [path for path in self.known if not Path(path).exists()]:
            del self.known[path]

    def _file(self, path: str) -> str | None:
        if is_remote(path):
            return content_key(path)
        try:
            before = Path(path).stat()
            stamp = [before.st_size, before.st_mtime_ns]
            known = self.known.get(path)
            if known is not None and known[:2] == stamp:
                return str(known[2])
            found = sha256_of(path)
        except OSError:
            return None
        if time.time_ns() - before.st_mtime_ns > RACY_NS:
            self.known[path] = [*stamp, found]
        return found


def _entry(one: Thing) -> bytes | None:
    try:
        known = read_dataset_info(Path(one.path).parent)
    except UsageError:
        return None
    return orjson.dumps(known[one.entry], option=orjson.OPT_SORT_KEYS) if one.entry in known else None


def _recipe(one: Thing) -> str | None:
    """The hash of all prompts of a shipped recipe; None where there is none of that name."""
    from datakit.recipes.recipe import ENDING, FOLDER

    files = sorted((FOLDER / one.path).glob(f"*{ENDING}"))
    whole = hashlib.sha256()
    for file in files:
        whole.update(orjson.dumps([file.name, sha256_of(file)]))
    return whole.hexdigest() if files else None


def _files_in(folder: str) -> Iterator[str]:
    """All files below ``folder`` but checkpoints and logs, which come and go without changing the result."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _passed_over(name)]
        yield from (str(Path(parent, name)) for name in files if not _passed_over(name))


def _passed_over(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in PASSED_OVER)
