"""Sources on other machines: the datasets of a hub, object stores, and whatever else fsspec opens."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

from registry.errors import UsageError
from registry.remote import cloud, hub
from registry.remote.address import SCHEMES, parse_address

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_MANGLED = re.compile(r"[A-Za-z][\w+.-]+:/(?!/)")
_LOCAL = re.compile(r"(?:file|local)://(?:localhost)?(?=/)", re.IGNORECASE)


def is_remote(name: str) -> bool:
    """Whether ``name`` is an address (``hf://…``, ``s3://…``) and no path."""
    return _SCHEME.match(name) is not None


def spelled(name: str | Path) -> str:
    """``name`` as text: what pathlib made of an address is the address again, and ``file://`` is the path in it."""
    text = str(name)
    if isinstance(name, Path) and _MANGLED.match(text) and not name.exists():
        text = text.replace(":/", "://", 1)
    return as_local(text) or text


def as_local(name: str) -> str | None:
    """The path that ``file:///path`` means; None for all else."""
    local = _LOCAL.match(name)
    return name[local.end() :] if local else None


def _on_hub(name: str) -> bool:
    return name.partition("://")[0].lower() in SCHEMES


def check(source: str) -> None:
    """Raise ``UsageError`` for what is wrong with an address, or not installed, as far as it shows without the network."""
    if _on_hub(source):
        hub.check(parse_address(source))
    else:
        cloud.check(source)


def expand(source: str) -> list[str]:
    """The files behind an address, each as an address of its own that holds its revision. Raises ``UsageError``."""
    return hub.expand(parse_address(source)) if _on_hub(source) else cloud.expand(source)


def downloaded(file: str) -> str | None:
    """Where a hub's file lies on this machine, downloaded if need be; None for what is streamed. Raises ``UsageError``."""
    return hub.fetch(parse_address(file)) if _on_hub(file) else None


def open_bytes(file: str) -> io.BufferedReader:
    """Open a streamed file for reading its bytes as they are. Raises ``UsageError``."""
    return cloud.open_bytes(file)


def content_key(file: str) -> str | None:
    """A text that is another where the content of a remote file is; None where the file is not to be had.

    Nothing of a hub's file is downloaded where its address holds a commit.
    """
    try:
        if _on_hub(file) and hub.is_pinned(parse_address(file)):
            return file
        return json.dumps(fingerprint(file), sort_keys=True)
    except UsageError:
        return None


def fingerprint(file: str) -> dict[str, Any]:
    """What a manifest tells of a remote file: ``bytes``, and what pins its content.

    A hub's file has a ``sha256`` and its ``revision`` (a commit where the hub knows commits), what a store keeps has
    the store's own ``etag`` (or checksum or generation); where it gives none, the file is read once more for a ``sha256``.
    Raises ``UsageError``.
    """
    if not _on_hub(file):
        return cloud.fingerprint(file)
    path = Path(str(downloaded(file)))
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest, "revision": parse_address(file).revision}
