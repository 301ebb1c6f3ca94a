"""What a store holds: totals, the newest answers, and the one that a key begins."""

from __future__ import annotations

import string
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datakit.augment.answer import Stored
from datakit.augment.store.choose import Choice
from datakit.augment.store.faults import damaged
from datakit.augment.store.layout import FIRST_REFUSAL, SELECT, read_about, reading
from datakit.augment.store.rows import from_row
from registry.errors import UsageError

KEY_DIGITS = 32
MOST_CANDIDATES = 10


@dataclass(frozen=True, slots=True)
class Group:
    """All that one model at one provider ended in the same way. ``bytes`` are packed ones, times seconds since 1970."""

    model: str
    provider: str
    finish: str
    answers: int
    refusals: int
    prompt_tokens: int
    completion_tokens: int
    bytes: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer without its text."""

    key: str
    created: float
    provider: str
    model: str
    status: int
    finish: str
    prompt_tokens: int
    completion_tokens: int
    bytes: int


@dataclass(frozen=True)
class Listing:
    """What `datakit store ls` shows."""

    path: Path
    file_bytes: int
    about: dict[str, str]
    groups: tuple[Group, ...]
    newest: tuple[Entry, ...]

    @property
    def answers(self) -> int:
        return sum(group.answers for group in self.groups)

    @property
    def refusals(self) -> int:
        return sum(group.refusals for group in self.groups)

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "store": str(self.path),
            "file_bytes": self.file_bytes,
            "about": self.about,
            "answers": self.answers,
            "refusals": self.refusals,
            "groups": [asdict(group) for group in self.groups],
            "newest": [asdict(entry) for entry in self.newest],
        }


def list_store(path: Path, choice: Choice, num_newest: int) -> Listing:
    """Totals of what ``choice`` takes, and the newest of it. Raises ``UsageError``."""
    where, values = choice.sql()
    with reading(path) as connection:
        choice.check(connection, path)
        groups = connection.execute(
            f"""SELECT model, provider, finish, sum(status < {FIRST_REFUSAL}), sum(status >= {FIRST_REFUSAL}),
            total(prompt_tokens), total(completion_tokens), total(length(packed)), min(created), max(created)
            FROM answers WHERE {where} GROUP BY model, provider, finish ORDER BY model, provider, count(*) DESC, finish""",
            values,
        ).fetchall()
        newest = connection.execute(
            f"""SELECT lower(hex(key)), created, provider, model, status, finish, prompt_tokens, completion_tokens,
            length(packed) FROM answers WHERE {where} ORDER BY created DESC, id DESC LIMIT ?""",
            [*values, num_newest],
        ).fetchall()
        about = read_about(connection)
    return Listing(
        path,
        path.stat().st_size,
        about,
        tuple(Group(*group[:5], *map(int, group[5:8]), *group[8:]) for group in groups),
        tuple(Entry(*entry) for entry in newest),
    )


def find(path: Path, prefix: str) -> Stored:
    """The one answer whose key begins with ``prefix`` (1 to 32 hex digits).

    Raises ``UsageError`` where none does, several do, or it does not match its checksum.
    """
    prefix = prefix.lower()
    if not 1 <= len(prefix) <= KEY_DIGITS or set(prefix) - set(string.hexdigits):
        raise UsageError(f'"{prefix}" is no beginning of a key', mend="A key is 32 digits from 0-9 and a-f.")
    bounds = [bytes.fromhex(prefix.ljust(KEY_DIGITS, digit)) for digit in "0f"]
    with reading(path) as connection:
        query = f"SELECT lower(hex(key)), model FROM answers WHERE key BETWEEN ? AND ? ORDER BY key LIMIT {MOST_CANDIDATES + 1}"
        found = connection.execute(query, bounds).fetchall()
        if len(found) != 1:
            raise _not_one(path, prefix, found)
        row = connection.execute(f"{SELECT} WHERE key = ?", (bytes.fromhex(found[0][0]),)).fetchone()
    stored = from_row(row) if row else None
    if stored is None or stored.key != found[0][0]:
        raise damaged(path, f"the answer {found[0][0]} does not match its checksum")
    return stored


def _not_one(path: Path, prefix: str, found: list[tuple[str, str]]) -> UsageError:
    if not found:
        return UsageError(
            f"no key begins with {prefix}", where=str(path), mend=f"The newest keys:  datakit store ls {path}"
        )
    listed = [f"  {key}  {model}" for key, model in found[:MOST_CANDIDATES]]
    more = ["  …"] if len(found) > MOST_CANDIDATES else []
    count = f"{MOST_CANDIDATES} or more" if more else str(len(found))
    return UsageError(
        "\n".join([f"{count} keys begin with {prefix}", *listed, *more]), where=str(path), mend="Give more digits."
    )
