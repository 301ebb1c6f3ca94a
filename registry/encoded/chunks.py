"""The rows of a dataset's files in chunks, cut at the same places whoever reads them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from registry.batches import batched
from registry.blocks import Block, Item, Piece, Place, gathered, read_blocks, rows_of_block
from registry.rows import BadRow, NoRows, Row, read_rows
from registry.sources import container_of, local_path

log = logging.getLogger("tunekit")

PIECES = 4  # of a chunk, each of about a megabyte
ONE_CHUNK = 4 << 20  # bytes; a file up to this is a single chunk


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one file: the ``index``-th chunk of the ``file``-th. ``places`` tell where they lie, for a process that
    can read them there; None where what comes before has to be passed over."""

    file: int
    index: int
    places: tuple[Place, ...] | None = None

    @property
    def name(self) -> str:
        return f"{self.file:04d}-{self.index:06d}"


def chunks_of(file: str, *, keep_blank_lines: bool) -> Iterator[list[Piece]]:
    """The rows of a file as lists of pieces, each list a chunk. A file without rows has none: others may have some."""
    items: Iterable[Item]
    if keep_blank_lines and container_of(file) == "txt":
        items = read_rows([file], keep_blank_lines=True)
    else:
        items = read_blocks([file])
    items = _until_none(file, items)
    return iter([list(gathered(items))]) if is_small(file) else batched(gathered(items), PIECES)


def _until_none(file: str, items: Iterable[Item]) -> Iterator[Item]:
    try:
        yield from items
    except NoRows:
        log.warning("there is no row in %s", file)


def is_small(file: str) -> bool:
    """Whether a file is a single chunk."""
    path = local_path(file)
    return path is not None and Path(path).stat().st_size <= ONE_CHUNK


def places_of(pieces: Iterable[Piece]) -> tuple[Place, ...] | None:
    """Where all of these pieces lie; None where one of them does not lie in a plain file."""
    places = [piece.place() if isinstance(piece, Block) else None for piece in pieces]
    return tuple(p for p in places if p) if all(places) else None


def has_places(file: str) -> bool:
    """Whether the chunks of a file can be read where they lie: plain lines of JSON on this machine."""
    path = local_path(file)
    return path is not None and container_of(file) == "jsonl" and Path(path).suffix.lower() not in (".gz", ".zst")


def rows_of_pieces(pieces: Iterable[Piece]) -> Iterator[Row | BadRow]:
    """The rows themselves."""
    for piece in pieces:
        yield from rows_of_block(piece) if isinstance(piece, Block) else piece
