"""The view that pt trains on: the tokens of all texts, cut into blocks where they fall."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from registry.cuts import IGNORE
from registry.encoded.rows import EncodedRows
from registry.examples import Example
from registry.texts import TextRules
from trainkit.data.makes import parts_by_row
from trainkit.data.views import Lost, Order, View

if TYPE_CHECKING:
    import numpy as np


class TextView(View):
    """pt: the tokens of all texts in order, cut into blocks of one length, or one example a text.

    Blocks are cut where they fall when they are asked for: nothing is copied together beforehand.
    """

    def __init__(
        self, sets: Sequence[EncodedRows], order: Order, rules: TextRules, keys: Sequence[str], *, masked: int | None
    ) -> None:
        """``masked`` is an id whose labels are left out (LLaMA-Factory's collator does so with padding's)."""
        import numpy as np

        self.sets, self.order, self.rules, self.keys, self.masked = sets, order, rules, tuple(keys), masked
        self.lost: list[Lost] = []
        lengths, starts, _ = parts_by_row(sets, order)
        self._sizes = lengths[starts].astype(np.int64) if len(order) else np.zeros(0, np.int64)
        self._ends = np.concatenate([[0], np.cumsum(self._sizes)])
        has_bos = rules.bos_id is not None
        if not rules.blocks:
            whole = self._sizes + int(has_bos)
            self.lengths = np.minimum(whole, rules.cutoff_len).astype(np.int32)
            self.cut = (whole - self.lengths).astype(np.int32)
            self.dropped = 0
        else:
            self._taken = rules.cutoff_len - int(has_bos and not rules.strict)
            firsts = [] if order.windows is None else (np.flatnonzero(np.diff(order.windows)) + 1).tolist()
            edges = self._ends[[0, *firsts, len(order)]]
            per_window = np.diff(edges) // self._taken
            self._window_starts, self._blocks = edges[:-1], np.concatenate([[0], np.cumsum(per_window)])
            num_blocks = int(self._blocks[-1])
            self.dropped = int(self._ends[-1]) - num_blocks * self._taken
            self.lengths = np.full(num_blocks, rules.cutoff_len, np.int32)
            self.cut = np.zeros(num_blocks, np.int32)
        self.trained = self.lengths

    def __getitem__(self, number: int) -> Example:
        import numpy as np

        rules = self.rules
        bos = [] if rules.bos_id is None else [rules.bos_id]
        if rules.blocks:
            start = self._start(number)
            ids = self._stream(start, start + self._taken)
            if bos:
                ids = np.concatenate([bos, ids[1:] if rules.strict else ids])
        else:
            ids = np.concatenate([bos, self._text(number)])[: rules.cutoff_len]
        held = array("i", ids.astype(np.int32, copy=False).tobytes())
        labels = held if self.masked is None else array("i", [IGNORE if i == self.masked else i for i in held])
        return Example(held, labels, int(self.cut[number]))

    def _start(self, number: int) -> int:
        """Where a block begins among the tokens of all texts."""
        import numpy as np

        window = int(np.searchsorted(self._blocks, number, side="right")) - 1
        return int(self._window_starts[window]) + (number - int(self._blocks[window])) * self._taken

    def places(self, number: int) -> list[tuple[str, int, int]]:
        """The texts of an example in order: file, row (from 1), and which of its tokens is the text's first."""
        import numpy as np

        texts, starts = [number], [0]
        if self.rules.blocks:
            start = self._start(number)
            first, end = np.searchsorted(self._ends, (start, start + self._taken - 1), side="right") - 1
            texts = [text for text in range(first, end + 1) if self._sizes[text]]
            opening = self.rules.cutoff_len - self._taken  # a BOS of its own stands before the text
            starts = [max(int(self._ends[text]) - start, 0) + opening for text in texts]
            starts[0] = 0
        found = []
        for text, at in zip(texts, starts, strict=True):
            found.append((*self.sets[int(self.order.datasets[text])].place(int(self.order.rows[text])), at))
        return found

    def _text(self, number: int) -> np.ndarray[Any, Any]:
        return self.sets[int(self.order.datasets[number])].row(int(self.order.rows[number]))[0]

    def _stream(self, start: int, end: int) -> np.ndarray[Any, Any]:
        """Tokens ``start`` to ``end`` of all texts one after another."""
        import numpy as np

        text = int(np.searchsorted(self._ends, start, side="right")) - 1
        pieces = []
        while start < end:
            first = int(self._ends[text])
            piece = self._text(text)[start - first : end - first]
            pieces.append(piece)
            start += len(piece)
            text += 1
        return np.concatenate(pieces)

    def digest(self) -> str:
        """A hash of everything that decides the examples."""
        found = hashlib.sha256(repr((self.keys, self.rules, self.masked)).encode())
        found.update(self.order.digest())
        return found.hexdigest()[:16]
