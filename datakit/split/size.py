"""How large a side is to be: a count of rows, or a share of them all."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from registry.errors import UsageError


@dataclass(frozen=True, slots=True)
class Size:
    """``count`` rows, or the ``share`` (0 to 1) of all rows; exactly one of them is set."""

    count: int | None = None
    share: Decimal | None = None

    @property
    def is_nothing(self) -> bool:
        return not self.count and not self.share

    def of(self, rows: int) -> int:
        """The rows of this size out of ``rows``: halves are rounded up, and a share is at least one row."""
        if self.share is None:
            return int(self.count or 0)
        return max(int(self.share * rows + Decimal("0.5")), 1) if self.share else 0

    def __str__(self) -> str:
        return f"{self.count:,} rows" if self.share is None else f"{self.share:%}".replace("%", " %")


def parse_size(given: str | int | float, flag: str) -> Size:
    """``200`` is a count, ``0.1`` and ``10%`` are shares, 0 is nothing. Raises ``UsageError`` naming ``flag``."""
    text = str(given).strip()
    wrong = UsageError(
        f'"{text}" is neither a count of rows nor a share of them',
        where=flag,
        mend=f"For example {flag} 200 (rows), {flag} 0.1 or {flag} 10%.",
    )
    percent = text.endswith("%")
    try:
        number = Decimal(text.removesuffix("%").replace("_", ""))
    except InvalidOperation:
        raise wrong from None
    if not number.is_finite() or number < 0:
        raise wrong
    if percent:
        number /= 100
    elif number == number.to_integral_value() and "." not in text and "e" not in text.lower():
        return Size(count=int(number))
    if number >= 1:
        raise UsageError(
            f"a share lies between 0 and 1, not at {text}",
            where=flag,
            mend=f"A count of rows has no point: {flag} {int(number)}." if not percent else None,
        )
    return Size(share=number)
