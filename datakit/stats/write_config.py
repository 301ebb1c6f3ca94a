"""The suggestion into a run's YAML: one line is changed or added, every other byte stays."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

from registry.atomic import atomic_file
from registry.errors import UsageError

KEY = "cutoff_len"
_LINE = re.compile(r"""^(?P<key>(?P<quote>["']?)cutoff_len(?P=quote)[ \t]*:)(?P<value>[^#\r\n]*?)(?P<rest>[ \t]+\#[^\r\n]*)?(?P<end>[ \t]*\r?)$""", re.M)  # fmt: skip


def check_config(path: Path) -> None:
    """Raise ``UsageError`` where ``path`` is no YAML mapping whose cutoff_len could be set, before anything is measured."""
    if path.exists() or path.is_symlink():
        edited(_read(path), 1, path)
    else:
        parent = next(p for p in path.absolute().parents if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise UsageError(f"nothing can be written in {parent}", where=str(path), mend="Choose another place.")


def write_cutoff(path: Path, cutoff_len: int) -> Any:
    """Set ``cutoff_len`` in a YAML (made where there is none), whole or not at all; returns what it was, or None.

    A link is followed, and the file keeps its permissions. Raises ``UsageError`` for what is no mapping.
    """
    path = path.resolve()
    if not path.exists():
        with atomic_file(path) as handle:
            handle.write(f"{KEY}: {cutoff_len}\n".encode())
        return None
    text = _read(path)
    changed, old = edited(text, cutoff_len, path)
    if changed != text:
        mode = stat.S_IMODE(path.stat().st_mode)
        with atomic_file(path) as handle:
            os.fchmod(handle.fileno(), mode)
            handle.write(changed.encode())
    return old


def edited(text: str, cutoff_len: int, path: Path) -> tuple[str, Any]:
    """The text with ``cutoff_len`` set, and what it was before. Raises ``UsageError`` naming ``path``."""
    before = _mapping(text, path)
    if before.get(KEY) == cutoff_len and isinstance(before[KEY], int):
        return text, cutoff_len
    line = f"{KEY}: {cutoff_len}"
    if KEY in before:
        changed = _LINE.sub(lambda m: f"{m['key']} {cutoff_len}{m['rest'] or ''}{m['end']}", text)
    else:
        newline = "\r\n" if "\r\n" in text else "\n"
        joint = "" if not text or text.endswith("\n") else newline
        changed = f"{text}{joint}{line}{newline}"
    try:
        after = _mapping(changed, path)
    except UsageError:
        after = {}
    if after != before | {KEY: cutoff_len}:
        raise UsageError(
            f"{KEY} cannot be set in it line by line (a mapping in braces, or over several lines)",
            where=str(path),
            mend=f"Write it by hand:  {line}",
        )
    return changed, before.get(KEY)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        raise UsageError("not UTF-8, so no YAML that is read here", where=str(path)) from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from None


def _mapping(text: str, path: Path) -> dict[Any, Any]:
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"not YAML: {first}", where=str(path)) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError("a config is a mapping of keys to values, and this is none", where=str(path))
    return value
