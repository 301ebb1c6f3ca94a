"""Columns into lines of JSON: flat ones as they are, or arranged as messages and lists of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from datakit.columns.shapes import Shape, Turn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl


def flat_lines(frame: pl.DataFrame) -> bytes:
    """Each row as one JSON object of its columns, a line each.

    ``write_ndjson`` gives the same bytes by way of two thread pools, for a third more.
    """
    import polars as pl

    return _side_by_side(frame, [pl.struct(pl.all()).struct.json_encode(), pl.lit("\n")])


def shaped_lines(parts: pl.DataFrame, shape: Shape, keys: tuple[str, str]) -> bytes:
    """Each row of ``parts`` arranged as ``shape`` says, a line each; ``keys`` name a message's author and its text.

    A text is spelled as an object of its own, whose opening brace gives way to what stands before it: lists of objects
    would first have to be made, which takes as long as spelling them.
    """
    import polars as pl

    pieces: list[pl.Expr] = []
    before = "{"
    for name, held in shape.items():
        if isinstance(held, str):
            continue
        turns = [held] if isinstance(held, Turn) else held
        before += f"{_text(name)}:" + ("" if isinstance(held, Turn) else "[")
        for turn in turns:
            pieces += [pl.lit(f"{before}{{{_text(keys[0])}:{_text(turn.who)},"), _spelled({keys[1]: turn.part})]
            before = ","
        before = "," if isinstance(held, Turn) else "],"
    beside = {name: held for name, held in shape.items() if isinstance(held, str)}  # behind the messages in all shapes
    pieces += [pl.lit(before), _spelled(beside)] if beside else [pl.lit(before.removesuffix(",") + "}")]
    return _side_by_side(parts, [*pieces, pl.lit("\n")])


def _text(value: str) -> str:
    return orjson.dumps(value).decode()


def _spelled(parts: Mapping[str, str]) -> pl.Expr:
    """An object of the parts named, without its opening brace."""
    import polars as pl

    return pl.struct(pl.col(part).alias(name) for name, part in parts.items()).struct.json_encode().str.slice(1)


def _side_by_side(frame: pl.DataFrame, pieces: Sequence[pl.Expr]) -> bytes:
    """The pieces of each row joined, one row after the other. A LargeString array holds them so, behind the offsets."""
    import polars as pl

    held: Any = frame.select_seq(pl.concat_str(pieces)).to_series().to_arrow()
    _, offsets, data = held.buffers()
    places = memoryview(offsets).cast("q")
    return bytes(memoryview(data)[places[held.offset] : places[held.offset + len(held)]]) if len(held) else b""
