"""Statistics: every request with its time and fate, and what can be counted of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Seen:
    """One request. Times are seconds since the server started or was reset.

    ``status``: what the client was told, 0 for no status line, None while nothing was sent. ``answered``: a completion
    went out whole. ``gone``: the client left before its reply was out; ``late``: and an answer became ready after that.
    ``key`` is a hash of the Authorization header, ``content`` one of the body.
    """

    at_s: float
    path: str
    key: str
    content: str
    body: bytes = b""
    action: str = ""
    status: int | None = None
    done_s: float | None = None
    answered: bool = False
    gone: bool = False
    late: bool = False


@dataclass
class Ledger:
    """All that was seen: chat requests, those inside batches, and the rest (models, files, batches)."""

    requests: list[Seen] = field(default_factory=list)
    batched: list[Seen] = field(default_factory=list)
    others: list[Seen] = field(default_factory=list)
    peak_concurrency: int = 0
    connections: int = 0

    @property
    def by_status(self) -> Counter[int]:
        """Chat requests by the status they were given; those without any are not counted."""
        return Counter(seen.status for seen in list(self.requests) if seen.status is not None)

    @property
    def by_action(self) -> Counter[str]:
        """Chat requests by what was done with them; ``cap`` and ``concurrency`` are refusals by the limits."""
        return Counter(seen.action for seen in list(self.requests))

    @property
    def by_key(self) -> Counter[str]:
        """Chat requests by the hash of their Authorization header; "" for none."""
        return Counter(seen.key for seen in list(self.requests))

    @property
    def answered(self) -> int:
        """How many completions went out whole, batches included."""
        return sum(seen.answered for seen in self._all())

    @property
    def late(self) -> int:
        """How many answers became ready when their client was gone."""
        return sum(seen.late for seen in list(self.requests))

    @property
    def gone(self) -> int:
        """How many clients left before their reply was out."""
        return sum(seen.gone for seen in list(self.requests))

    @property
    def pending(self) -> int:
        """How many requests still wait for their reply."""
        return sum(seen.done_s is None and not seen.gone for seen in list(self.requests))

    @property
    def answered_twice(self) -> dict[str, int]:
        """Hash of the body → how often it was answered, for bodies that were answered more than once."""
        counts = Counter(seen.content for seen in self._all() if seen.answered)
        return {content: count for content, count in counts.items() if count > 1}

    def busiest(self, per_s: float = 1.0, status: int | None = 200) -> int:
        """The most requests with that status (None: any) that arrived within any ``per_s`` seconds."""
        times = sorted(s.at_s for s in list(self.requests) if status is None or s.status == status)
        most = start = 0
        for end, at in enumerate(times):
            while at - times[start] >= per_s:
                start += 1
            most = max(most, end - start + 1)
        return most

    def _all(self) -> Iterable[Seen]:
        return [*self.requests, *self.batched]

    def summary(self, *, each: bool = False) -> dict[str, Any]:
        """All counts as JSON can hold them; ``each``: with every chat request (without its body)."""
        requests = list(self.requests)
        done = [seen.done_s for seen in requests if seen.done_s is not None]
        found: dict[str, Any] = {
            "requests": len(requests),
            "by_status": {str(status): count for status, count in sorted(self.by_status.items())},
            "by_action": dict(self.by_action),
            "by_key": dict(self.by_key),
            "answered": self.answered,
            "answered_twice": len(self.answered_twice),
            "gone": self.gone,
            "late": self.late,
            "pending": self.pending,
            "batched": len(self.batched),
            "others": len(self.others),
            "peak_concurrency": self.peak_concurrency,
            "connections": self.connections,
            "first_s": min((seen.at_s for seen in requests), default=None),
            "last_s": max(done, default=None),
        }
        if each:
            names = ("at_s", "done_s", "path", "key", "content", "action", "status", "answered", "gone", "late")
            found["each"] = [{name: getattr(seen, name) for name in names} for seen in requests]
        return found
