"""The cache of encoded rows as its owner sees it: what is in it, how large it is, and making room."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from registry.encoded.build import ABOUT, JOURNAL, LOCK, SPEC
from registry.encoded.rows import read_journal
from registry.errors import UsageError, from_os_error

DAY = 86_400  # seconds


@dataclass(frozen=True, slots=True)
class Entry:
    """One dataset's encoded rows. ``bytes`` on the disk, ``days`` since they were last used."""

    key: str
    dataset: str
    files: tuple[str, ...]
    kind: str
    template: str | None
    rows: int
    tokens: int
    bytes: int
    days: float
    complete: bool


def list_cache(root: Path) -> list[Entry]:
    """What the cache under ``root`` holds, what was used last first."""
    if not root.is_dir():
        return []
    found = [_entry(folder) for folder in root.iterdir() if (folder / SPEC).is_file()]
    return sorted(found, key=lambda entry: entry.days)


def remove(root: Path, entries: Iterable[Entry]) -> tuple[int, list[str]]:
    """Remove entries; returns the bytes that came free, and the keys of those that are being encoded right now.

    Rows that a run has mapped stay readable to it until it ends.
    """
    freed, busy = 0, []
    for entry in entries:
        folder = root / entry.key
        try:
            with FileLock(folder / LOCK, timeout=0):
                for path in folder.iterdir():
                    if path.name != LOCK:  # somebody may wait for it just now
                        path.unlink(missing_ok=True)
        except Timeout:
            busy.append(entry.key)
            continue
        except OSError as error:
            raise from_os_error(error, f"removing {folder}") from error
        freed += entry.bytes
    return freed, busy


def chosen(
    entries: Sequence[Entry], *, keys: Sequence[str] = (), older_than: float | None = None, everything: bool = False
) -> list[Entry]:
    """The entries that an option names: by the start of their keys, by days without use, or all.

    Raises ``UsageError`` for a key that none begins with, or several do.
    """
    if everything:
        return list(entries)
    found = [entry for entry in entries if older_than is not None and entry.days >= older_than]
    for key in keys:
        named = [entry for entry in entries if entry.key.startswith(key)]
        if len(named) != 1:
            what = "no entry's key begins so" if not named else f"{len(named)} entries' keys begin so"
            raise UsageError(what, where=key, mend="See the keys:  trainkit cache")
        found += [entry for entry in named if entry not in found]
    return found


def as_json(root: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    return {"folder": str(root), "bytes": sum(e.bytes for e in entries), "entries": [asdict(e) for e in entries]}


def as_table(root: Path, entries: Sequence[Entry]) -> str:
    """The entries as lines of text, a line each."""
    if not entries:
        return f"nothing is cached in {root}"
    lines = [("key", "dataset", "for", "template", "rows", "tokens", "MB", "unused for")]
    for e in entries:
        state = f"{e.days:.0f} days" if e.complete else "unfinished"
        lines.append(
            (e.key[:12], e.dataset, e.kind, e.template or "-", f"{e.rows:,}", f"{e.tokens:,}", f"{e.bytes / 1e6:,.1f}", state)
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = (4, 5, 6)
    told = ["  ".join(w.rjust(n) if i in right else w.ljust(n) for i, (w, n) in enumerate(zip(line, widths, strict=True))).rstrip() for line in lines]  # fmt: skip
    total = sum(e.bytes for e in entries) / 1e6
    return "\n".join([*told, f"{total:,.1f} MB in {root}"])


def _entry(folder: Path) -> Entry:
    spec = _read(folder / SPEC)
    about = _read(folder / ABOUT)
    entries, complete = read_journal(folder / JOURNAL)
    journal = folder / JOURNAL
    used = journal.stat().st_mtime if journal.exists() else folder.stat().st_mtime
    return Entry(
        key=folder.name, dataset=str(about.get("dataset") or "?"), files=tuple(about.get("files", ())),
        kind=str(spec.get("kind")), template=spec.get("template"), rows=sum(e["rows"] for e in entries),
        tokens=sum(e["tokens"] for e in entries), bytes=sum(p.stat().st_size for p in folder.iterdir() if p.is_file()),
        days=max((time.time() - used) / DAY, 0.0), complete=complete,
    )  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
