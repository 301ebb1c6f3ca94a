"""Stops a run that mostly fails, before the money is gone: the first ten calls are a canary, then a window slides."""

from __future__ import annotations

from collections import Counter, deque

from datakit.augment.admission import CANARY
from datakit.augment.failures import CallFailed, Kind

WINDOW = 100  # calls
MOST = 0.5  # of them, that may fail for good
AT_LEAST = 20  # calls that ended, before the window is judged
# Attempts in a row that failed, whatever the reason: an outage that lasts longer than back-off bridges.
MOST_IN_A_ROW = 500
MOST_AT_START = 30  # the same, as long as nothing was answered yet: most likely nobody is there


class Breaker:
    """Takes how calls and their reading ended, and says what to do. Not safe for several threads."""

    def __init__(self, canary: int = CANARY) -> None:
        self._canary = canary
        self._ended: deque[Kind | None] = deque(maxlen=WINDOW)
        self._examples: dict[Kind, str] = {}
        self._alive = False
        self._first: list[Kind | None] = []
        self._in_a_row = 0
        self._answered = False

    def ended(self, failure: CallFailed | None) -> str | None:
        """One attempt came back, with an answer or not. "" opens the lanes, a text is why to stop, None goes on."""
        if failure is None:
            self._in_a_row, self._answered = 0, True
            return self._note(None)
        self._in_a_row += 1
        self._examples[failure.kind] = str(failure)
        if failure.kind is Kind.REFUSED:
            return self._note(Kind.REFUSED)
        if self._in_a_row >= (MOST_IN_A_ROW if self._answered else MOST_AT_START):
            none = "" if self._answered else "Nothing was answered: "
            return f"{none}{self._in_a_row} attempts in a row failed. The last one: {failure}"
        return None

    def unread(self, message: str) -> str | None:
        """Two answers, already counted, could not be read: they become one call that failed."""
        self._examples[Kind.UNPARSABLE] = message
        good = [index for index, kind in enumerate(self._ended) if kind is None][-2:]
        if good:
            self._ended[good[-1]] = Kind.UNPARSABLE
        if len(good) == 2:
            del self._ended[good[0]]
        return self._judge()

    def _note(self, kind: Kind | None) -> str | None:
        self._ended.append(kind)
        if not self._alive:
            self._first.append(kind)
            good = self._first.count(None)
            if len(self._first) >= self._canary and good == 0:
                return self._verdict(f"all of the first {len(self._first)} calls failed", self._first)
            if len(self._first) >= self._canary:
                self._alive = True
                return ""
        return self._judge()

    def _judge(self) -> str | None:
        failed = sum(kind is not None for kind in self._ended)
        if len(self._ended) >= AT_LEAST and failed > MOST * len(self._ended):
            return self._verdict(f"{failed} of the last {len(self._ended)} calls failed for good", self._ended)
        return None

    def _verdict(self, what: str, kinds: list[Kind | None] | deque[Kind | None]) -> str:
        commonest = Counter(kind for kind in kinds if kind is not None).most_common(1)[0][0]
        return f"{what}. For example: {self._examples.get(commonest, commonest)}"
