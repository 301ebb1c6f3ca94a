"""Encoded rows where they lie on the disk: each by its number, lengths of all at once."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from registry.encoded.chunks import Chunk
from registry.encoded.shard import Shard, check_file, damaged
from registry.errors import RowFault

if TYPE_CHECKING:
    import numpy as np


def read_journal(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The shards that are complete, in order, and whether they are all; a line that was cut off ends the list."""
    entries: list[dict[str, Any]] = []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], False
    for line in lines[:-1]:
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not isinstance(entry, dict):
            break
        if entry.get("complete"):
            return entries, True
        entries.append(entry)
    return entries, False


class EncodedRows:
    """All rows of one dataset that the cache holds, in the order of its files; row numbers count from 0.

    Rows that could not be encoded keep their number and have no ids.
    """

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        """Map every shard. Raises ``UsageError`` where one is damaged."""
        self.folder, self.files = folder, tuple(files)
        self.entries, self.complete = read_journal(folder / "journal.jsonl")
        self.shards: list[Shard] = []
        for entry in self.entries:
            name = Chunk(entry["file"], entry["index"]).name
            path = folder / f"{name}.arrow"
            shard = Shard(path, num_bytes=entry["bytes"], crc=entry["crc"])
            if shard.num_rows != entry["rows"]:
                raise damaged(path, f"it holds {shard.num_rows} rows, and {entry['rows']} were written")
            if "rejects" in entry:
                check_file(folder / f"{name}.rejects.jsonl", *entry["rejects"])
            self.shards.append(shard)
        self._firsts = [0, *accumulate(shard.num_rows for shard in self.shards)]

    def __len__(self) -> int:
        return self._firsts[-1]

    def _at(self, row: int) -> tuple[Shard, int, int]:
        number = bisect_right(self._firsts, row) - 1
        return self.shards[number], row - self._firsts[number], number

    def row(self, row: int) -> tuple[np.ndarray[Any, Any], list[int]]:
        """The uncut ids of a row (int32, a view of the file) and the lengths of its parts."""
        shard, at, _ = self._at(row)
        ids = shard.ids[shard.ends[at] : shard.ends[at + 1]]
        return ids, shard.parts[shard.part_ends[at] : shard.part_ends[at + 1]].tolist()

    def weights(self, row: int) -> list[float] | None:
        """What each answer of a row counts in the loss; None where all count alike."""
        shard, at, _ = self._at(row)
        return shard.weights(at)

    def roles(self, row: int) -> list[int] | None:
        """The roles of a row's messages as numbers in ``shard.ROLES``; None where user and assistant take turns."""
        shard, at, _ = self._at(row)
        return shard.roles(at)

    def lead(self, row: int) -> int:
        """How many tokens open a row before its first message."""
        shard, at, _ = self._at(row)
        return 0 if shard.leads is None else int(shard.leads[at])

    def desirable(self, row: int) -> bool:
        """Whether the answer of a row of feedback was judged desirable."""
        shard, at, _ = self._at(row)
        return shard.desirable is not None and bool(shard.desirable[at].as_py())

    def fault(self, row: int) -> RowFault | None:
        """Why a row has no ids."""
        shard, at, _ = self._at(row)
        return shard.faults.get(at)

    def place(self, row: int) -> tuple[str, int]:
        """The file of a row, and its number there, from 1."""
        shard, at, number = self._at(row)
        return self.files[self.entries[number]["file"]], int(shard.rows[at])

    def special_texts(self, rows: np.ndarray[Any, Any]) -> int:
        """How many special tokens stand as text in the user's side of ``rows`` (by number)."""
        import numpy as np

        found = [np.zeros(s.num_rows, np.int32) if s.specials is None else s.specials for s in self.shards]
        return int(np.concatenate(found)[rows].sum()) if found else 0

    def count_by_file(self, rows: np.ndarray[Any, Any]) -> dict[str, int]:
        """How many of ``rows`` (by number) lie in each file."""
        import numpy as np

        if not len(rows):
            return {}
        of = np.array([entry["file"] for entry in self.entries])[np.searchsorted(self._firsts, rows, side="right") - 1]
        counts = np.bincount(of, minlength=len(self.files)).tolist()
        return {file: count for file, count in zip(self.files, counts, strict=True) if count}

    def part_lengths(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """(lengths int32, ends int64 [R + 1] from 0): row r has the parts ``lengths[ends[r] : ends[r + 1]]``."""
        import numpy as np

        if not self.shards:
            return np.zeros(0, np.int32), np.zeros(1, np.int64)
        counts = np.concatenate([np.diff(shard.part_ends) for shard in self.shards])
        ends = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=ends[1:])
        return np.concatenate([shard.parts for shard in self.shards]), ends

    def part_roles(self) -> np.ndarray[Any, Any]:
        """The role of every part, beside the lengths of ``part_lengths``: numbers in ``shard.ROLES`` (int8)."""
        import numpy as np

        found = [shard.part_roles() for shard in self.shards]
        return np.concatenate(found) if found else np.zeros(0, np.int8)

    def leads(self) -> np.ndarray[Any, Any]:
        """How many tokens open each row before its first message (int32)."""
        import numpy as np

        found = [s.leads if s.leads is not None else np.zeros(s.num_rows, np.int32) for s in self.shards]
        return np.concatenate(found) if found else np.zeros(0, np.int32)

    def unsound(self) -> np.ndarray[Any, Any]:
        """Which rows have no ids (bool)."""
        import numpy as np

        found = np.zeros(len(self), np.bool_)
        for first, shard in zip(self._firsts, self.shards, strict=False):
            found[[first + at for at in shard.faults]] = True
        return found

    def uneven(self) -> np.ndarray[Any, Any]:
        """Which rows have answers that do not count alike (bool)."""
        import numpy as np

        found = np.zeros(len(self), np.bool_)
        for first, shard in zip(self._firsts, self.shards, strict=False):
            if shard.has_weights:
                found[[first + at for at in range(shard.num_rows) if shard.weights(at) is not None]] = True
        return found

    def rejects(self, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """File, row, field, reason and raw text of each of the first ``limit`` rows that has no ids."""
        for first, entry, shard in zip(self._firsts, self.entries, self.shards, strict=False):
            if limit is not None and first >= limit:
                return
            if not entry["faults"]:
                continue
            path = self.folder / f"{Chunk(entry['file'], entry['index']).name}.rejects.jsonl"
            inside = {int(shard.rows[at]) for at in shard.faults if limit is None or first + at < limit}
            with path.open("rb") as handle:
                for line in handle:
                    reject = orjson.loads(line)
                    if reject["row"] in inside:
                        yield {**reject, "file": self.files[entry["file"]]}

    def total(self, fact: str) -> int:
        """The sum of a number that the journal keeps of each shard: rows, tokens, faults, specials, bytes."""
        return sum(int(entry[fact]) for entry in self.entries)
