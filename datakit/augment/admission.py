"""How much one server takes from one key: concurrency that adapts, the pace learnt from refusals, and known quotas.

Nothing here sends or waits: a lane is told what was sent and what came back, and says when the next call may go. Three
things hold calls back, and the latest one counts:

- concurrency, by additive increase and one cut for each burst of refusals (Chiu and Jain, 1989). It begins with the
  canary, then grows by two for each answer until the first refusal (three times as many after each round), and after
  it by one in a while;
- pace, once a server refused for the first time: what it took in the second before, as that is what a limit on
  requests lets through. It is remembered as a ceiling, and only rarely looked behind;
- what was said: ``Retry-After``, quota headers, ``--rpm`` and ``--tpm``.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

CANARY = 10  # calls at once until the first ones are answered
GROWTH = 2.0  # more at once for each answer, until the first refusal
MARGIN = 0.97  # of the pace that a server took: a little below it nothing is refused
PROBE_EVERY_S = 20.0  # between looks above a pace that was refused once
PROBE = 1.05  # how far above it
SOON_S, PROBE_SOON = 1.0, 1.1  # the same, as long as the first refusal may have been about the number at once
SOFTER = 0.7  # of the pace, when a server refuses again at once
LONGEST_PAUSE_S = 60.0
SPREAD = 0.75  # of a round, over which calls are spread while it grows
LATE = 0.5  # of the time between two calls, that may be caught up
HEADROOM = 0.1  # of a quota: the pace goes down below half of it, and up above
LEAST_LEFT = 1.5  # requests, where a tenth of the quota is less
STEER_UP, STEER_DOWN = 1.01, 0.98  # of the pace, for each answer whose headers tell of more room, or of less
LONG_S = 60.0  # how far back calls that were taken are remembered
FIRST_PACE = 1.0  # calls a second, at least, until a server refused more than once
SLOWEST = 0.05  # calls a second
ROOM = 1.5  # times as many calls at once as a pace needs
NEARLY = 0.85  # of the pace: what goes through is about the pace, and the refusal was bad luck
GENTLE = 0.98  # of the pace, when a server refuses what it took before
TROUBLED = 5  # failures in a row, from which on a server is given more time
HOLD_S = 0.03  # at least, after a single refusal, to see what becomes of the calls right behind it
LATELY, RARE = 100, 0.02  # calls that are remembered, and the share of them that may be refused for once
ENOUGH = 3  # of these that are taken, for the refusal to be bad luck
FIRST_PAUSE_S = 0.25  # after a second refusal in a row, doubled with each


@dataclass
class Bucket:
    """So many a minute: fills evenly, up to ``burst_s`` seconds' worth; may be overdrawn by what was guessed too low."""

    per_minute: float
    burst_s: float = 1.0
    level: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.most

    @property
    def most(self) -> float:
        return max(self.per_minute / 60 * self.burst_s, 1.0)

    def opens_at(self, now: float, amount: float) -> float:
        """When ``amount`` may be taken. More than the bucket holds is let through when it is full."""
        self._fill(now)
        missing = min(amount, self.most) - self.level
        # A hair too early by rounding would ask again and again.
        return now if missing <= 1e-9 else now + missing * 60 / self.per_minute

    def take(self, now: float, amount: float) -> None:
        """Take it; a negative amount is a refund."""
        self._fill(now)
        self.level = min(self.level - amount, self.most)

    def _fill(self, now: float) -> None:
        if now > self.at:
            self.level = min(self.level + (now - self.at) * self.per_minute / 60, self.most)
            self.at = now


@dataclass(frozen=True, slots=True)
class Suspect:
    """A refusal that is looked into ``until`` then: when the call was sent, when it came ``at``, what the server said, and
    how many were ``refused`` with it."""

    sent_at: float
    until: float
    at: float
    retry_after: float | None
    refused: int = 1


@dataclass
class Lane:
    """One key at one address, as far as what it takes is known. Times are seconds of one clock that never goes back.

    ``most`` is the concurrency asked for. Not safe for several threads; whoever owns it holds a lock.
    """

    most: int
    rpm: float | None = None
    tpm: float | None = None
    in_flight: int = 0
    limit: float = field(init=False)
    rate: float | None = None  # calls a second, learnt
    refused: int = 0  # rate limits met so far
    bursts: int = 0  # of them
    why: str = "canary"
    shut: bool = False  # its key is wrong, or its quota used up
    _open: bool = False  # the canary lives
    _paused_until: float = 0.0
    _last_sent: float = -math.inf
    _last_cut: float = -math.inf
    _resumes: float = -math.inf  # when the pause after it ends: what was sent before belongs to its burst
    _last_grown: float = 0.0
    _last_probe: float = 0.0
    _series: int = 0  # bursts in a row with no answer in between
    _accepted: deque[float] = field(default_factory=deque)  # when calls were sent that were not refused
    _latency: float = 0.0
    _delay: float = 0.0  # seconds from a call to its refusal: how late a server's clock may be behind ours
    _failures: int = 0  # in a row
    _suspect: Suspect | None = None
    _lately: deque[bool] = field(default_factory=lambda: deque(maxlen=LATELY))  # which of the last calls were refused
    _first_sent: float | None = None
    _last_answer: float = 0.0
    _most_taken: int = 0  # at once
    _out_at_cut: int = 0  # on their way when it was made, less those that were refused

    def __post_init__(self) -> None:
        self.limit = float(min(self.most, CANARY))
        self._requests = Bucket(self.rpm) if self.rpm else None
        self._tokens = Bucket(self.tpm, burst_s=10.0) if self.tpm else None

    def open(self) -> None:
        """The first calls were answered: from now on it may grow."""
        if not self._open:
            self._open = True
            self.why = "growing"

    @property
    def troubled(self) -> bool:
        """Whether several calls in a row failed, so that it is the server and not the call."""
        return self._failures >= TROUBLED

    def opens_at(self, now: float, tokens: float) -> float:
        """When a call of about ``tokens`` may go: ``now``, later, or infinity where one has to come back first."""
        self._judge(now)
        if self.shut or self.in_flight >= max(int(self.limit), 1):
            return math.inf
        when = max(now, self._paused_until)
        gap = self._gap()
        if gap:
            when = max(when, self._last_sent + gap)
        if self._requests is not None:
            when = max(when, self._requests.opens_at(now, 1))
        if self._tokens is not None:
            when = max(when, self._tokens.opens_at(now, tokens))
        return when

    def _gap(self) -> float:
        """Seconds between two calls. While it grows, calls are spread over a round, so that a refusal of one comes
        back before many more are sent."""
        if self.rate is not None:
            return 1 / self.rate
        if not self._open or self.limit >= self.most:
            return 0.0
        return min(SPREAD * self._latency / max(self.limit, 1.0), 0.02)

    def sent(self, now: float, tokens: float) -> None:
        """A call of about ``tokens`` goes."""
        self.in_flight += 1
        gap = self._gap()
        # The next one counts from when this one was due, so that a late one does not slow the pace; within bounds, as
        # calls that catch up come in a bunch.
        self._last_sent = max(self._last_sent + gap, now - LATE * gap) if self.rate is not None else now
        self._accepted.append(now)
        if self._first_sent is None:
            self._first_sent = now
        while self._accepted and self._accepted[0] < now - LONG_S:
            self._accepted.popleft()
        if self._requests is not None:
            self._requests.take(now, 1)
        if self._tokens is not None:
            self._tokens.take(now, tokens)

    def _returned(self, now: float, guessed: float, used: float) -> None:
        self.in_flight -= 1
        if self._tokens is not None:
            self._tokens.take(now, used - guessed)

    def answered(self, now: float, sent_at: float, guessed: float, used: float, headers: Mapping[str, str]) -> None:
        """The call that was sent at ``sent_at`` came back with an answer of ``used`` tokens in all."""
        # What is refused comes back at once, so these were all taken.
        self._most_taken = max(self._most_taken, self.in_flight)
        self._lately.append(False)
        self._last_answer = now
        self._returned(now, guessed, used)
        self._failures = 0
        if sent_at > self._resumes:
            self._series = 0
        took = now - sent_at
        self._latency = took if not self._latency else 0.8 * self._latency + 0.2 * took
        self._grow(now)
        self._heed(now, sent_at, headers)

    def failed(self, now: float, guessed: float, used: float = 0.0, retry_after: float | None = None) -> None:
        """The call failed, but not because there were too many. Several in a row hold the lane back, ever longer."""
        self._returned(now, guessed, used)
        self._failures += 1
        if retry_after is not None:
            self._pause(now + min(retry_after, LONGEST_PAUSE_S), f"the server said to wait {retry_after:.0f} s")
        elif self._failures >= max(2 * CANARY, int(self.limit)):
            rounds = self._failures // max(2 * CANARY, int(self.limit))
            self._pause(now + min(2.0 ** min(rounds, 6), LONGEST_PAUSE_S) / 2, "nothing but failures")

    def refused_for_now(self, now: float, sent_at: float, guessed: float, retry_after: float | None) -> None:
        """The server said that there are too many (429). All that were sent before the last cut belong to its burst."""
        self._returned(now, guessed, 0.0)
        self.refused += 1
        self._lately.append(True)
        self._delay = min(now - sent_at, 0.1)
        if sent_at in self._accepted:
            self._accepted.remove(sent_at)
        if sent_at <= self._resumes:
            # One more of the same burst: it was counted as taken when the cut was made, and was not.
            self._out_at_cut -= 1
            if self.rate is not None and self.bursts == 1 and self._last_cut - 1.0 < sent_at < self._last_cut:
                self.rate = max(self.rate - MARGIN, SLOWEST)
            self._wait_as_told(now, retry_after)
        elif self._suspect is None:
            self._suspect = Suspect(sent_at, now + max(2 * self._delay, HOLD_S), now, retry_after)
            self._pause(self._suspect.until, "one call was refused (429)")
        else:
            self._suspect = replace(self._suspect, refused=self._suspect.refused + 1)

    def _judge(self, now: float) -> None:
        """A call was refused, and for a moment none was sent. Where most that went out right behind it were not, or
        hardly any were lately, it was bad luck, and the lane goes on; else it counts as a burst."""
        suspect = self._suspect
        if suspect is None or now < suspect.until:
            return
        taken = sum(at > suspect.sent_at for at in self._accepted)
        rare = suspect.refused == 1 and self.rate is not None and sum(self._lately) <= RARE * LATELY
        if taken >= max(ENOUGH, suspect.refused) or rare:
            self._suspect = None  # the one call waits as it was told, the others need not
        else:
            self._confirm(now)

    def _confirm(self, now: float) -> None:
        """It was the beginning of a burst."""
        suspect, self._suspect = self._suspect, None
        assert suspect is not None
        self._wait_as_told(suspect.at, suspect.retry_after)
        self._cut(now, told=suspect.retry_after is not None)
        self._resumes = max(now, self._paused_until)

    def _wait_as_told(self, now: float, retry_after: float | None) -> None:
        if retry_after is not None:
            self._pause(now + retry_after, f"the server said to wait {retry_after:.0f} s")

    def _cut(self, now: float, *, told: bool) -> None:
        """A burst begins. The pace is what went through in the last second, and hardly less than it was; only when
        nothing goes through after a pause, and another one, it gets much slower."""
        recent = [at for at in self._accepted if at > now - 1.0]
        pace = self._pace(now)
        if self.rate is None:
            self.rate = max(pace, FIRST_PACE)
        elif self._series >= 2 and now - self._last_answer > 2 * self._latency + 0.5:
            self.rate = max(self.rate * SOFTER, self._long_pace(now))
        else:
            near = pace >= NEARLY * self.rate or (self._series > 0 and now < self._resumes + 1.0)  # too soon to tell
            self.rate = max(self.rate * GENTLE if near else max(pace, self.rate * SOFTER), SLOWEST)
        # As many as the pace keeps on their way, with some room: where it is the number at once that is limited, the
        # pace follows from it.
        room = math.ceil(self.rate * self._latency * ROOM) + 1
        self.limit = float(min(max(room, 2), self.most))
        self._last_cut = self._last_grown = self._last_probe = now
        self._out_at_cut = self.in_flight
        self.bursts += 1
        self._series += 1
        if told:
            return
        if self._series > 1:
            self._pause(now + min(FIRST_PAUSE_S * 2.0 ** (self._series - 2), LONGEST_PAUSE_S), "refused again (429)")
        else:
            # Most limits count a second that slides: there is room when the first call leaves it.
            first = recent[0] + 1.0 if recent else now + 1.0
            self._pause(min(first, now + 1.0) + self._delay, "refused (429)")

    def _pause(self, until: float, why: str) -> None:
        if until > self._paused_until:
            self._paused_until, self.why = until, why

    def _grow(self, now: float) -> None:
        if not self._open:
            return
        if self.rate is None:
            # Refusals come at once: the longer an answer takes, the fewer calls too many are sent before the first one.
            self.limit = min(self.limit + GROWTH * (1 + min(self._latency, 1.0)), float(self.most))
            self.why = "as many as asked for" if self.limit >= self.most else "growing"
            return
        if now < self._paused_until:
            return
        if now - self._last_grown > max(1.0, 2 * self._latency) and self.limit < self.most:
            self.limit += 1
            self._last_grown = now
        if now - self._last_probe > (SOON_S if self._unsure else PROBE_EVERY_S):
            self.rate, self._last_probe = self.rate * (PROBE_SOON if self._unsure else PROBE), now
        self.why = f"held at {self.rate:.3g} a second, as more were refused"

    @property
    def _unsure(self) -> bool:
        """Whether the one burst so far may have been about the number at once, and the pace be too low: never were more
        taken than were on their way then. Where more were, it was the pace that was refused."""
        return self.bursts == 1 and self._most_taken <= self._out_at_cut

    def _heed(self, now: float, sent_at: float, headers: Mapping[str, str]) -> None:
        """Slow down before a quota is used up, where the server tells it; what was sent since it did counts as used."""
        if not any(f"x-ratelimit-remaining-{what}" in headers for what in ("requests", "tokens")):
            return
        # At a steady pace as many leave the window meanwhile as come into it.
        since = sum(at > sent_at for at in self._accepted) if self.rate is None else 0
        for what, gone in (("requests", since), ("tokens", 0)):
            left = _number(headers.get(f"x-ratelimit-remaining-{what}"))
            of = _number(headers.get(f"x-ratelimit-limit-{what}"))
            reset = duration(headers.get(f"x-ratelimit-reset-{what}", ""))
            if left is None or reset is None or reset <= 0:
                continue
            if what == "tokens" or not of:
                if left < 1:
                    self._pause(now + min(reset, LONGEST_PAUSE_S), f"the quota of {what} is used up for {reset:.1f} s")
            else:
                self._keep_headroom(now, left - gone, of)
                if left - gone < 1:
                    wait = min((1 - left + gone) * reset / of, LONGEST_PAUSE_S)
                    self._pause(now + wait, f"{left:.0f} of {of:.0f} requests are left")

    def _keep_headroom(self, now: float, left: float, of: float) -> None:
        """Steer the pace so that a little of the quota stays free, whatever kind of window it counts."""
        if left < max(LEAST_LEFT, HEADROOM / 2 * of):
            self.rate = max(self.rate * STEER_DOWN, SLOWEST) if self.rate is not None else self._pace(now)
            self._last_probe = now
        elif left > max(2 * LEAST_LEFT, HEADROOM * of) and self.rate is not None and now > self._resumes:
            self.rate *= STEER_UP
            self._last_probe = now

    def _long_pace(self, now: float) -> float:
        """Calls a second that a server took in the last minute, or since the first one."""
        assert self._first_sent is not None
        return max(len(self._accepted) / min(max(now - self._first_sent, 1.0), LONG_S), SLOWEST)

    def _pace(self, now: float) -> float:
        """Calls a second that a server took in the last second."""
        return max(sum(at > now - 1.0 for at in self._accepted) * MARGIN, SLOWEST)


def _number(value: str | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None


_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(text: str) -> float | None:
    """``6m0s``, ``120ms``, ``1.5s`` or plain seconds, in seconds; None for anything else."""
    text = text.strip()
    number = _number(text or None)
    if number is not None:
        return number
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        return None
    return sum(float(n) * _UNITS[unit] for n, unit in parts)
