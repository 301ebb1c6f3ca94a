"""Which earlier rows share a band of MinHash with a row, while rows still come: sorted keys, and the latest ones beside."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from datakit.dedup.buckets import MOST_OF_BUCKET

if TYPE_CHECKING:
    import numpy as np

FEWEST_RECENT, MOST_RECENT = 1 << 10, 1 << 13  # rows that are held beside the sorted ones
RECENT_SHARE = 8  # a part of the rows that are sorted


class BandIndex:
    """Rows by the keys of their bands. 12 bytes a band and row, and some 200 for the few thousand latest rows.

    Rows are asked for in batches, whose rows may be added while it is asked for the next of them.
    """

    def __init__(self, num_bands: int) -> None:
        import numpy as np

        self._keys = [np.empty(0, np.uint64) for _ in range(num_bands)]
        self._rows = [np.empty(0, np.uint32) for _ in range(num_bands)]
        self._recent: dict[int, list[int]] = {}
        self._recent_keys: list[np.ndarray] = []  # [bands] of each row
        self._recent_rows: list[int] = []
        self._batch: np.ndarray | None = None
        self._bounds: list[tuple[list[int], list[int]]] = []

    def begin(self, keys: np.ndarray) -> None:
        """The rows of the next batch: their keys, uint64 [bands, rows]."""
        import numpy as np

        if len(self._recent_rows) >= min(max(FEWEST_RECENT, len(self._rows[0]) // RECENT_SHARE), MOST_RECENT):
            self._sort_in()
        self._batch = keys
        self._bounds = [
            (np.searchsorted(known, band, "left").tolist(), np.searchsorted(known, band, "right").tolist())
            for known, band in zip(self._keys, keys, strict=True)
        ]

    def sharing(self, at: int) -> Counter[int]:
        """The rows that share bands with the row ``at`` of this batch, each with how many; of one band's not all, where
        they are more than ``MOST_OF_BUCKET``."""
        found: Counter[int] = Counter()
        assert self._batch is not None
        for key, rows, (left, right) in zip(self._batch[:, at].tolist(), self._rows, self._bounds, strict=True):
            if right[at] > left[at]:
                found.update(_some(rows[left[at] : right[at]].tolist()))
            if key in self._recent:
                found.update(_some(self._recent[key]))
        return found

    def add(self, at: int, row: int) -> None:
        """Know the row ``at`` of this batch from now on as ``row``, a number below 2^32."""
        assert self._batch is not None
        keys = self._batch[:, at].copy()
        for key in keys.tolist():
            self._recent.setdefault(key, []).append(row)
        self._recent_keys.append(keys)
        self._recent_rows.append(row)

    def _sort_in(self) -> None:
        import numpy as np

        keys = np.array(self._recent_keys, np.uint64).T
        rows = np.array(self._recent_rows, np.uint32)
        for band, new in enumerate(keys):
            joined = np.concatenate([self._keys[band], new])
            order = np.argsort(joined, kind="stable")
            self._keys[band] = joined[order]
            self._rows[band] = np.concatenate([self._rows[band], rows])[order]
        self._recent.clear()
        self._recent_keys.clear()
        self._recent_rows.clear()


def _some(rows: list[int]) -> list[int]:
    half = MOST_OF_BUCKET // 2
    return rows if len(rows) <= MOST_OF_BUCKET else rows[:half] + rows[-half:]
