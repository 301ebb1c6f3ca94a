"""How many requests (or tokens) a server takes: fixed window, sliding window, token bucket, each kept exactly."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Cap:
    """``limit`` requests or tokens per ``per_s`` seconds. ``burst`` (token bucket only): how many may come at once.

    ``counts_refused``: a refused request uses up quota as well, as some servers do.
    """

    limit: int
    per_s: float = 1.0
    kind: Literal["fixed", "sliding", "bucket"] = "sliding"
    count: Literal["requests", "tokens"] = "requests"
    burst: int | None = None
    counts_refused: bool = False


@dataclass(frozen=True)
class Quota:
    """Where a cap stands after a request: what is left, when it is whole again, and when another one of that cost fits."""

    limit: int
    remaining: int
    reset_s: float
    wait_s: float


class Meter(Protocol):
    """One cap at work; times are seconds on any clock that does not go back."""

    def fits(self, now: float, cost: int) -> bool:
        """Whether a request of that cost is taken now. Nothing is used up."""
        ...

    def use(self, now: float, cost: int) -> None:
        """Use up quota."""
        ...

    def quota(self, now: float, cost: int) -> Quota:
        """Where the cap stands."""
        ...


class FixedWindow:
    """At most ``limit`` in each window; the first window opens with the first request."""

    def __init__(self, cap: Cap) -> None:
        self._limit, self._per_s = cap.limit, cap.per_s
        self._start, self._window, self._used = -1.0, -1, 0

    def _turn(self, now: float) -> None:
        if self._start < 0:
            self._start = now
        window = int((now - self._start) / self._per_s)
        if window != self._window:
            self._window, self._used = window, 0

    def fits(self, now: float, cost: int) -> bool:
        self._turn(now)
        return self._used + cost <= self._limit

    def use(self, now: float, cost: int) -> None:
        self._turn(now)
        self._used += cost

    def quota(self, now: float, cost: int) -> Quota:
        self._turn(now)
        left_s = self._start + (self._window + 1) * self._per_s - now
        fits = self._used + cost <= self._limit
        return Quota(self._limit, max(0, self._limit - self._used), left_s, 0.0 if fits else left_s)


class SlidingWindow:
    """At most ``limit`` in any ``per_s`` seconds."""

    def __init__(self, cap: Cap) -> None:
        self._limit, self._per_s = cap.limit, cap.per_s
        self._taken: deque[tuple[float, int]] = deque()
        self._used = 0

    def _slide(self, now: float) -> None:
        while self._taken and now - self._taken[0][0] >= self._per_s:
            self._used -= self._taken.popleft()[1]

    def fits(self, now: float, cost: int) -> bool:
        self._slide(now)
        return self._used + cost <= self._limit

    def use(self, now: float, cost: int) -> None:
        self._slide(now)
        self._taken.append((now, cost))
        self._used += cost

    def quota(self, now: float, cost: int) -> Quota:
        self._slide(now)
        reset_s = self._taken[-1][0] + self._per_s - now if self._taken else 0.0
        over, wait_s = self._used + cost - self._limit, 0.0
        for at, taken in self._taken:
            if over <= 0:
                break
            over -= taken
            wait_s = at + self._per_s - now
        return Quota(self._limit, max(0, self._limit - self._used), reset_s, wait_s)


class TokenBucket:
    """``burst`` at once (default: ``limit``), refilled by ``limit`` per ``per_s`` seconds."""

    def __init__(self, cap: Cap) -> None:
        self._rate = cap.limit / cap.per_s
        self._limit = cap.limit
        self._most = float(cap.burst or cap.limit)
        self._level, self._at = self._most, -1.0

    def _fill(self, now: float) -> None:
        if self._at >= 0:
            self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now

    def fits(self, now: float, cost: int) -> bool:
        self._fill(now)
        return self._level + 1e-9 >= cost

    def use(self, now: float, cost: int) -> None:
        self._fill(now)
        self._level -= cost

    def quota(self, now: float, cost: int) -> Quota:
        self._fill(now)
        reset_s = (self._most - self._level) / self._rate
        return Quota(self._limit, max(0, int(self._level)), reset_s, max(0.0, (cost - self._level) / self._rate))


METERS: dict[str, type[FixedWindow] | type[SlidingWindow] | type[TokenBucket]] = {
    "fixed": FixedWindow,
    "sliding": SlidingWindow,
    "bucket": TokenBucket,
}


class Gate:
    """All caps of one server; a request passes when each of them has room."""

    def __init__(self, caps: tuple[Cap, ...]) -> None:
        self._caps = [(cap, METERS[cap.kind](cap)) for cap in caps]

    def admits(self, now: float, tokens: int) -> bool:
        """Take a request, or refuse it; what is refused uses up nothing unless the cap says so."""
        costs = [1 if cap.count == "requests" else tokens for cap, _ in self._caps]
        fits = all(meter.fits(now, cost) for (_, meter), cost in zip(self._caps, costs, strict=True))
        for (cap, meter), cost in zip(self._caps, costs, strict=True):
            if fits or cap.counts_refused:
                meter.use(now, cost)
        return fits

    def quotas(self, now: float, tokens: int) -> dict[str, Quota]:
        """Where the caps stand, by what they count; of several that count the same, the one with the longest wait."""
        found: dict[str, Quota] = {}
        for cap, meter in self._caps:
            quota = meter.quota(now, 1 if cap.count == "requests" else tokens)
            if cap.count not in found or quota.wait_s > found[cap.count].wait_s:
                found[cap.count] = quota
        return found
