"""How long rows are, in characters and in tokens by rule of thumb: the median, and what 95 of 100 stay below."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from datakit.augment.filters.parts import parts_of
from datakit.augment.guess import rough_tokens
from registry.records import Record


@dataclass
class Lengths:
    """Lengths of rows, all their turns together; 8 bytes a row."""

    _chars: array[int] = field(default_factory=lambda: array("I"))
    _tokens: array[int] = field(default_factory=lambda: array("I"))

    def add(self, record: Record) -> None:
        """One row."""
        texts = [part.text for part in parts_of(record)]
        self._chars.append(sum(map(len, texts)))
        self._tokens.append(sum(map(rough_tokens, texts)))

    def as_json(self) -> dict[str, int]:
        """Rows, and the quantiles of both measures; 0 where there is no row."""
        return {
            "rows": len(self._chars),
            "chars_median": quantile(self._chars, 0.5),
            "chars_p95": quantile(self._chars, 0.95),
            "tokens_median": quantile(self._tokens, 0.5),
            "tokens_p95": quantile(self._tokens, 0.95),
        }


def quantile(values: array[int], share: float) -> int:
    """The least value that at least ``share`` (0 to 1) of ``values`` do not exceed; 0 of none."""
    if not values:
        return 0
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * round(share * 1000) // 1000) - 1, 0)]
