"""The first of the two readings: a few bytes about each row, which is all that choosing its side takes."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from datakit.layout import ColumnWatch, lookup
from datakit.origins import ID, ORIGIN, SeedRef, name_of, origin_of, seeds_of
from datakit.values import encode_row
from registry.blocks import Block, Item
from registry.errors import RowFault, UsageError
from registry.rows import Row, decode_json

MOST_STRATA = 10_000  # more values than this are no strata
NO_VALUE = "(no value)"
NO_KEY = 0  # in columns of keys


def key_of(kind: str, text: str) -> int:
    """A 64-bit key of a text, never ``NO_KEY``. Two texts with one key would only be kept together needlessly."""
    return _hash(f"{kind}\0{text}".encode("utf-8", "surrogatepass"), b"") or 1


def _hash(data: bytes, seed: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=seed).digest(), "little")


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of rows of one file, whose numbers grow: from place ``start`` on."""

    file: str
    start: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where the numbers of seed rows count: in the file ``told`` beside them, or, None, as suits rows in ``file``."""

    file: str
    told: str | None


@dataclass
class Seeds:
    """The rows that were made from others, and how each names its seed row."""

    made: array[int] = field(default_factory=lambda: array("Q"))  # places of rows with an _origin
    by_id: tuple[array[int], array[int]] = field(default_factory=lambda: (array("Q"), array("Q")))  # place, key of id
    by_number: tuple[array[int], array[int], array[int]] = field(
        default_factory=lambda: (array("Q"), array("I"), array("Q"))  # place, code of where numbers count, number
    )
    places: dict[Place, int] = field(default_factory=dict)  # where numbers count -> code

    def add(self, place: int, file: str, ref: SeedRef) -> None:
        """The row at ``place``, read from ``file``, was made from the row ``ref``."""
        if ref.id is not None:
            self.by_id[0].append(place)
            self.by_id[1].append(key_of("id", ref.id))
        if ref.row is not None and 0 < ref.row < 1 << 63:
            self.by_number[0].append(place)
            self.by_number[1].append(self.places.setdefault(Place(file, ref.file), len(self.places)))
            self.by_number[2].append(ref.row)


@dataclass
class Notes:
    """What the first reading keeps of the rows that can be written, by their place (0, 1, …) among these."""

    by: str | None
    stratify: str | None
    seed: int
    priority: array[int] = field(default_factory=lambda: array("Q"))  # the seed's order
    number: array[int] = field(default_factory=lambda: array("I"))  # the row's number in its file
    segments: list[Segment] = field(default_factory=list)
    group: array[int] = field(default_factory=lambda: array("Q"))  # key of the value of ``by``
    stratum: array[int] = field(default_factory=lambda: array("I"))  # code of the value of ``stratify``
    strata: dict[str, int] = field(default_factory=dict)  # value of ``stratify`` -> code
    named: array[int] = field(
        default_factory=lambda: array("Q")
    )  # key of the row's own id, up to the last one with any
    seeds: Seeds = field(default_factory=lambda: Seeds())
    num_rejected: int = 0
    num_without_group: int = 0

    def __post_init__(self) -> None:
        self._salt = str(self.seed).encode()
        self._changes: Counter[str] = Counter()  # whoever writes the rows tells them

    def __len__(self) -> int:
        return len(self.priority)

    def add(self, file: str, number: int, data: Mapping[str, Any]) -> None:
        """Take note of one row; one that cannot be written is only counted."""
        try:
            line = encode_row(data, self._changes)
        except RowFault:
            self.num_rejected += 1
            return
        place, group = len(self.priority), NO_KEY
        if not self.segments or self.segments[-1].file != file or number <= self.number[-1]:
            self.segments.append(Segment(file, place))
        if self.by is not None:
            value = lookup(data, self.by)
            group = NO_KEY if value is None else key_of("by", name_of(value))
            self.group.append(group)
            self.num_without_group += group == NO_KEY
        if self.stratify is not None:
            self.stratum.append(self._stratum_of(data))
        self.number.append(number)
        name = data.get(ID)
        if name is not None:  # until the first row with an id comes, this takes no memory
            self.named.frombytes(bytes(8 * (place - len(self.named))))
            self.named.append(key_of("id", name_of(name)))
        if ORIGIN in data and origin_of(data) is not None:
            self.seeds.made.append(place)
            for ref in seeds_of(data):
                self.seeds.add(place, file, ref)
        self.priority.append(_hash(line if group == NO_KEY else group.to_bytes(8, "little"), self._salt))

    def _stratum_of(self, data: Mapping[str, Any]) -> int:
        value = lookup(data, str(self.stratify))
        name = NO_VALUE if value is None else name_of(value)
        code = self.strata.setdefault(name, len(self.strata))
        if code == MOST_STRATA:
            raise UsageError(
                f'"{self.stratify}" has more than {MOST_STRATA:,} values, and each would be a stratum of its own',
                where="--stratify",
                mend="Choose a field with few values; --by keeps rows with the same value together.",
            )
        return code


def take_notes(items: Iterable[Item], by: str | None, stratify: str | None, seed: int, where: str) -> Notes:
    """Read all rows once. Raises ``UsageError`` where no row has the field of ``by`` or ``stratify``."""
    notes = Notes(by, stratify, seed)
    watches = [(flag, ColumnWatch.of({flag: name})) for flag, name in (("--by", by), ("--stratify", stratify)) if name]
    for file, number, data in _rows_of(items):
        if data is None:
            notes.num_rejected += 1
            continue
        for _, watch in watches:
            watch.look(data)
        notes.add(file, number, data)
    for flag, watch in watches:
        watch.check(where, flag)
    return notes


def _rows_of(items: Iterable[Item]) -> Iterator[tuple[str, int, dict[str, Any] | None]]:
    """File, number and data of every row; None for data that cannot be read."""
    for item in items:
        if not isinstance(item, Block):
            yield item.file, item.number, item.data if isinstance(item, Row) else None
            continue
        for number, line in enumerate(item.data.split(b"\n"), start=item.number):
            if line and not line.isspace():
                try:
                    data = decode_json(line)
                except orjson.JSONDecodeError:
                    data = None
                yield item.file, number, data if type(data) is dict else None
