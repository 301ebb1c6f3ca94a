"""Where lines end in a piece of JSON text, and how many keys its objects have: what is seen without decoding it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LINE_END, SPACE, QUOTE, COLON, BACKSLASH, OPEN, CLOSE = 10, 32, 34, 58, 92, 123, 125
MOST_SPACES = 64  # before a colon that are stepped over
UNSURE = 1 << 40  # more keys than any row has: its text must be looked at
DEEPEST = 100  # levels


@dataclass(frozen=True, slots=True)
class Marks:
    """Offsets in a piece of JSON text: where each line begins and ends (its break left out), and the colons of keys.

    A colon is taken for a key's where a quote stands before it that no backslash escapes: quotes within strings are all
    escaped, and behind a string that is no key there is no colon. Keys that end in a backslash are missed, and strings
    that begin with a colon are taken for keys. ``one_a_line``: each line begins with a brace and ends with one, so that
    no value goes on from one line to the next.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    colons: NDArray[np.int64]
    one_a_line: bool

    def keys_by_line(self) -> NDArray[np.int64]:
        """How many keys there are in each line."""
        import numpy as np

        counts: NDArray[np.int64] = np.searchsorted(self.colons, self.ends) - np.searchsorted(self.colons, self.starts)
        return counts


class Marker:
    """Finds marks, in arrays that it keeps: a block's worth of fresh memory costs as much as the search."""

    def __init__(self) -> None:
        import numpy as np

        self._scratch = np.empty((2, 0), np.bool_)

    def marks(self, data: bytes) -> Marks:
        """The marks of a piece of text that is not empty."""
        import numpy as np

        text = np.frombuffer(data, np.uint8)
        if len(text) > self._scratch.shape[1]:
            self._scratch = np.empty((2, len(text) + len(text) // 8), np.bool_)
        is_colon, is_mark = self._scratch[:, : len(text)]
        np.equal(text, COLON, out=is_colon)
        np.equal(text, LINE_END, out=is_mark)
        # One search for both, as it takes longer than the comparisons.
        marks = np.flatnonzero(np.logical_or(is_colon, is_mark, out=is_mark))
        of_colons = is_colon[marks]
        ends = marks[~of_colons]
        if not data.endswith(b"\n"):
            ends = np.append(ends, len(text))
        starts = np.empty_like(ends)
        starts[0], starts[1:] = 0, ends[:-1] + 1
        one_a_line = bool((text[starts] == OPEN).all() and (text[ends - 1] == CLOSE).all())
        return Marks(starts, ends, _of_keys(text, marks[of_colons]), one_a_line)


def _of_keys(text: NDArray[np.uint8], colons: NDArray[np.int64]) -> NDArray[np.int64]:
    import numpy as np

    colons = colons[colons > 1]  # no key is before the others
    before = colons - 1
    signs = text[before]
    spaced = np.flatnonzero(signs <= SPACE)
    if spaced.size:
        for _ in range(MOST_SPACES):
            before[spaced] -= 1
            spaced = spaced[text[before[spaced]] <= SPACE]
            if not spaced.size:
                break
        signs = text[before]
        signs[spaced] = QUOTE  # too many spaces to tell; one key too many is only looked at more closely
    return colons[(signs == QUOTE) & (text[before - 1] != BACKSLASH)]


def keys_in(value: Any, depth: int = 0) -> int:
    """How many keys all objects in a decoded value have; ``UNSURE`` where the marks may not show them all."""
    if isinstance(value, Mapping):
        inside, own = value.values(), len(value)
        if any(key.endswith("\\") for key in value):
            return UNSURE
    elif isinstance(value, list):
        inside, own = value, 0  # type: ignore[assignment]
    else:
        return 0
    if depth == DEEPEST:
        return UNSURE
    return own + sum(keys_in(one, depth + 1) for one in inside if isinstance(one, dict | list))
