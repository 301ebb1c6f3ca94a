"""Answers that are no longer wanted: counted first, removed only when asked to, and their room given back."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datakit.augment.store.choose import Choice
from datakit.augment.store.faults import SQLITE_ERRORS, told
from datakit.augment.store.layout import FIRST_REFUSAL, open_to_write, reading
from datakit.augment.store.lock import hold


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or (``done`` False) would go. ``bytes`` are packed ones, ``file_bytes`` the size of the file after."""

    store: str
    done: bool
    answers: int
    refusals: int
    bytes: int
    left: int
    file_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return asdict(self)


def prune_store(path: Path, choice: Choice, *, keep: Collection[bytes] | None = None, really: bool = False) -> Pruned:
    """Remove what ``choice`` takes, but none of the keys in ``keep``; unless ``really``, only tell what that would be.

    Raises ``UsageError`` where another run writes into the store, or it is read-only or damaged. On a full disk
    (``StoppedError``) the file is either as it was or pruned, but not smaller.
    """
    with contextlib.ExitStack() as held:
        if really:
            held.callback(hold(path).release)
        with reading(path) as connection:
            choice.check(connection, path)
            pruned = _measure(connection, path, choice, keep)
        if not really or not pruned.answers + pruned.refusals:
            return pruned
        try:
            connection = open_to_write(path, create=False)
            held.callback(connection.close)
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()  # a killed run left it in WAL mode
            connection.execute("BEGIN IMMEDIATE")
            where, values = _condition(connection, choice, keep)
            connection.execute(f"DELETE FROM answers WHERE {where}", values)
            connection.execute("COMMIT")
            connection.execute("VACUUM")
        except SQLITE_ERRORS as error:
            raise told(error, path) from error
    return replace(pruned, done=True, file_bytes=path.stat().st_size)


def _measure(connection: sqlite3.Connection, path: Path, choice: Choice, keep: Collection[bytes] | None) -> Pruned:
    where, values = _condition(connection, choice, keep)
    answers, refusals, num_bytes = connection.execute(
        f"""SELECT total(status < {FIRST_REFUSAL}), total(status >= {FIRST_REFUSAL}), total(length(packed))
        FROM answers WHERE {where}""",
        values,
    ).fetchone()
    (held,) = connection.execute("SELECT count(*) FROM answers").fetchone()
    left = held - int(answers + refusals)
    return Pruned(str(path), False, int(answers), int(refusals), int(num_bytes), left, path.stat().st_size)


def _condition(
    connection: sqlite3.Connection, choice: Choice, keep: Collection[bytes] | None
) -> tuple[str, list[str | float]]:
    """The condition of ``choice`` and, with ``keep``, a table of keys beside the store that it spares."""
    where, values = choice.sql()
    if keep is None:
        return where, values
    connection.execute("CREATE TEMP TABLE keep (key BLOB PRIMARY KEY) WITHOUT ROWID")
    connection.executemany("INSERT INTO keep VALUES (?)", ((key,) for key in keep))
    return f"({where}) AND key NOT IN keep", values
