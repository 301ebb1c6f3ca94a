"""Which files an earlier run of the same output left that this one does not write again: shards that would be read along."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from datakit.targets import Target, same_file
from registry.errors import TunekitError
from registry.remote import is_remote
from registry.remote.cloud import faults_of, filesystem

log = logging.getLogger("tunekit")


def files_of_earlier_run(target: Target, keep: Sequence[str]) -> list[str]:
    """The outputs that the manifest of ``target`` lists and that nothing of ``keep`` is: they go, and only they.

    A file that was changed since (its size is another) stays, with a warning.
    """
    found = []
    for entry in _outputs(target.manifest):
        file = _beside(target.manifest, entry)
        if file is None or entry.get("rejects") or not (target.owns(file) or target.holds_shard(file)):
            continue
        if any(same_file(file, kept) for kept in keep):
            continue
        size = _size_of(file)
        if size is None:
            continue
        if size != entry.get("bytes"):
            log.warning("%s is of an earlier run and was changed since; it is left as it is", file)
            continue
        found.append(file)
    return found


def _outputs(manifest: str) -> list[dict[str, Any]]:
    try:
        if is_remote(manifest):
            store, path = filesystem(manifest)
            with faults_of(manifest, "reading"):
                text = store.cat_file(path)
        else:
            text = Path(manifest).read_bytes()
        told = orjson.loads(text)
    except (OSError, orjson.JSONDecodeError, TunekitError):  # there is none, or it is none
        return []
    outputs = told.get("outputs") if isinstance(told, dict) else None
    return [entry for entry in outputs if isinstance(entry, dict)] if isinstance(outputs, list) else []


def _beside(manifest: str, entry: dict[str, Any]) -> str | None:
    """An output's name from here: shards lie beside their manifest, wherever the earlier run was started."""
    name = entry.get("file")
    if not isinstance(name, str):
        return None
    folder, slash, _ = manifest.rpartition("/")
    return folder + slash + name.rpartition("/")[2]


def _size_of(file: str) -> int | None:
    if is_remote(file):
        store, path = filesystem(file)
        with faults_of(file, "looking at"):
            return int(store.size(path)) if store.exists(path) else None
    here = Path(file)
    return here.stat().st_size if here.is_file() and not here.is_symlink() else None
