"""Columns into lines of JSON: flat ones as they are, or arranged as messages and lists of messages."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from datakit.columns.shapes import Shape, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl


def flat_lines(frame: pl.DataFrame) -> bytes:
    """Each row as one JSON object of its columns, a line each.

    ``write_ndjson`` gives the same bytes by way of two thread pools, for a third more.
    """
    import polars as pl

    line = pl.concat_str(pl.struct(pl.all()).struct.json_encode(), pl.lit("\n"))
    return _side_by_side(frame.select_seq(line).to_series())


def _side_by_side(texts: pl.Series) -> bytes:
    """All texts joined. A LargeString array holds them so: behind the offsets, one after the other."""
    held: Any = texts.to_arrow()
    _, offsets, data = held.buffers()
    places = memoryview(offsets).cast("q")
    return bytes(memoryview(data)[places[held.offset] : places[held.offset + len(held)]]) if len(held) else b""


def shaped_lines(parts: pl.DataFrame, shape: Shape, keys: tuple[str, str]) -> bytes:
    """Each row of ``parts`` arranged as ``shape`` says, a line each; ``keys`` name a message's author and its text."""
    import polars as pl

    columns = []
    for name, held in shape.items():
        if isinstance(held, str):
            columns.append(parts[held].alias(name))
        elif isinstance(held, Turn):
            columns.append(_messages(parts, [held], keys).alias(name))
        else:
            columns.append(_messages(parts, held, keys).reshape((parts.height, len(held))).alias(name))
    return flat_lines(pl.DataFrame(columns))


def _messages(parts: pl.DataFrame, turns: Sequence[Turn], keys: tuple[str, str]) -> pl.Series:
    """The messages of row after row, as many a row as there are ``turns``.

    Texts are views of 16 bytes, so gathering them in another order copies no text; ``concat_list``, the plain way to
    say it, took 14 times as long.
    """
    import polars as pl

    texts = pl.concat([parts[turn.part].alias(keys[1]) for turn in turns])
    authors = pl.Series(keys[0], [turn.who for turn in turns])
    whose, order = _turn_by_turn(parts.height, len(turns))
    return pl.DataFrame([authors.gather(whose), texts.gather(order)]).to_struct("message")


@lru_cache(maxsize=16)  # most batches have as many rows as the one before
def _turn_by_turn(height: int, count: int) -> tuple[pl.Series, pl.Series]:
    """For row after row, turn after turn: the number of the turn, and the place of its text in a list of all first
    turns, then all second ones, and so on."""
    import numpy as np
    import polars as pl

    order = np.arange(height * count, dtype=np.uint32).reshape(count, height).T.ravel()
    return pl.Series(np.tile(np.arange(count, dtype=np.uint32), height)), pl.Series(order)
