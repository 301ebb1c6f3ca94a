"""Rows on the disk between the moment they are made and the moment they are written: any order in, the seeds' order out."""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import msgspec

from datakit.augment.failures import CallFailed
from datakit.augment.rollout import Made, Seed
from datakit.augment.store.faults import NO_ROOM
from datakit.values import encode_row
from registry.errors import StoppedError
from registry.records import ChatRecord, FeedbackRecord, PreferenceRecord, Record, TextRecord
from registry.rows import decode_json

_KINDS: tuple[type[Any], ...] = (TextRecord, ChatRecord, PreferenceRecord, FeedbackRecord)
_NONE = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Unit:
    """What became of one seed: the rows made of it with their data, or why there are none (or not all).

    ``reason`` and ``code`` are those of a ``CallFailed`` with that ``kind``; for a row that could not be read there is
    a ``reason``, a ``field`` and no kind. ``raw`` is the source's row, where it may be needed again.
    """

    seed: Seed
    rows: tuple[tuple[dict[str, Any], Made], ...] = ()
    kind: str = ""
    reason: str = ""
    code: str = ""
    field: str = ""
    raw: str = ""
    recipe: str = ""  # as _origin names it; empty where nothing was asked

    @property
    def failed(self) -> bool:
        return bool(self.reason)


def failed_unit(
    seed: Seed, failure: CallFailed, rows: Sequence[tuple[dict[str, Any], Made]], raw: str, recipe: str
) -> Unit:
    """The unit of a seed whose calls failed; rows that were made before stay."""
    return Unit(seed, tuple(rows), str(failure.kind), failure.reason, failure.code, raw=raw, recipe=recipe)


@dataclass
class Spool:
    """Units by the index of their seed, in a file without a name; 8 bytes of memory each."""

    folder: Path | None = None
    _at: array[int] = field(default_factory=lambda: array("Q"))
    _file: IO[bytes] = field(init=False)
    count: int = 0
    changes: Counter[str] = field(default_factory=Counter)  # what of the rows' values no JSON can hold

    def __post_init__(self) -> None:
        self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115  # closed by __exit__
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder().decode

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, unit: Unit) -> None:
        """Keep one unit.

        Raises ``RowFault`` for a row that no JSON can spell, and nothing is kept then; ``StoppedError`` where the disk
        is full.
        """
        seeds = _seeds_in(unit)
        told = {
            "seed": _seed_out(unit.seed),
            "seeds": [_seed_out(seed) for seed in seeds],
            "rows": [
                (
                    encode_row(data, self.changes),
                    _record_out(made.record),
                    [seeds.index(seed) for seed in made.seeds],
                    dict(made.notes),
                )
                for data, made in unit.rows
            ],
            "why": tuple(map(_text_out, (unit.kind, unit.reason, unit.code, unit.field, unit.raw, unit.recipe))),
        }
        spelled = self._encode(told)
        index = unit.seed.index
        while len(self._at) <= index:
            self._at.append(_NONE)
        with _room():
            self._at[index] = self._file.seek(0, 2)
            self._file.write(len(spelled).to_bytes(8, "little") + spelled)
        self.count += 1

    def units(self) -> Iterator[Unit]:
        """All units in the order of their seeds; seeds that nothing is known of are passed over.

        Raises ``StoppedError`` where the disk is full.
        """
        with _room():
            self._file.flush()
        for at in self._at:
            if at == _NONE:
                continue
            self._file.seek(at)
            size = int.from_bytes(self._file.read(8), "little")
            told = self._decode(self._file.read(size))
            seeds = [_seed_in(seed) for seed in told["seeds"]]
            rows = tuple(
                (decode_json(data), Made(_not_none(_record_in(record)), (), tuple(seeds[i] for i in places), notes))
                for data, record, places, notes in told["rows"]
            )
            yield Unit(_seed_in(told["seed"]), rows, *map(_text_in, told["why"]))


@contextmanager
def _room() -> Iterator[None]:
    """What a full disk says of the spool, whose file has no name that could be told."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise StoppedError(
            "there is no room for the rows that were made; the answers they were read from are in the store",
            where="augment",
            mend="Free some space and run the same command again: what is answered is not asked for twice.",
        ) from error


def _seeds_in(unit: Unit) -> list[Seed]:
    """The seeds of all rows, each once."""
    found: list[Seed] = []
    for _, made in unit.rows:
        found += [seed for seed in made.seeds if seed not in found]
    return found


def _seed_out(seed: Seed) -> tuple[Any, ...]:
    pool = [_seed_out(one) for one in seed.pool]
    return (seed.index, _text_out(seed.file), seed.number, _record_out(seed.record), seed.chunk, pool, seed.draw)


def _seed_in(told: Sequence[Any]) -> Seed:
    index, file, number, record, chunk, pool, draw = told
    return Seed(index, _text_in(file), number, _record_in(record), chunk, tuple(map(_seed_in, pool)), draw)


def _text_out(text: str) -> bytes:
    """Names of files may hold bytes that are no UTF-8, as halves of characters, which msgpack refuses."""
    return text.encode("utf-8", "surrogatepass")


def _text_in(told: bytes) -> str:
    return told.decode("utf-8", "surrogatepass")


def _record_out(record: Record | None) -> tuple[int, Mapping[str, Any]] | None:
    return None if record is None else (_KINDS.index(type(record)), msgspec.to_builtins(record))


def _record_in(told: Sequence[Any] | None) -> Record | None:
    return None if told is None else msgspec.convert(told[1], _KINDS[told[0]])


def _not_none(record: Record | None) -> Record:
    assert record is not None
    return record
