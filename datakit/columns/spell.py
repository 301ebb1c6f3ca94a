"""Columns into lines of JSON: flat ones as they are, or arranged as messages and lists of messages."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from datakit.columns.shapes import Shape, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl


def flat_lines(frame: pl.DataFrame) -> bytes:
    """Each row as one JSON object of its columns, a line each."""
    target = io.BytesIO()
    frame.write_ndjson(target)
    return target.getvalue()


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
    import numpy as np
    import polars as pl

    height, count = parts.height, len(turns)
    texts = pl.concat([parts[turn.part].alias(keys[1]) for turn in turns])
    order = np.arange(height * count, dtype=np.uint32).reshape(count, height).T.ravel()
    authors = pl.Series(keys[0], [turn.who for turn in turns])
    whose = np.tile(np.arange(count, dtype=np.uint32), height)
    return pl.DataFrame([authors.gather(pl.Series(whose)), texts.gather(pl.Series(order))]).to_struct("message")
