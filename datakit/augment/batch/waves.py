"""Requests that wait for their batch: they come in waves, as answers make the next calls ready, and go in files."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from datakit.augment.batch.pace import Pace
from datakit.augment.budget import Budget
from datakit.augment.guess import Guess
from datakit.augment.request import Request

# With these a request may yet go when batches that are out took less than was thought.
_MAY_YET_FIT = ("--budget-tokens", "--budget-cost")
_AROUND = 300  # bytes of a line beside the request
_AROUND_MESSAGE = 32


@dataclass
class Job:
    """One request that somebody waits for. Tokens are guessed; ``reserved`` says that the budget counts it as out."""

    request: Request
    number: int
    attempts: int = 0
    prompt: int = 0
    completion: int = 0
    reserved: bool = False

    @property
    def most_bytes(self) -> int:
        """What its line takes in a file, at the most."""
        return len(self.request.spelled) + _AROUND + _AROUND_MESSAGE * len(self.request.messages)


class Waves:
    """The queue. ``most_out`` is what a server lets wait, once that is known. Not safe for several threads.

    Servers count tokens, which are only guessed here, and better with each answer; so bytes stand for them.
    """

    def __init__(self, pace: Pace, budget: Budget, guess: Guess) -> None:
        self.most_out = float("inf")
        self._pace, self._budget, self._guess = pace, budget, guess
        self._jobs: deque[Job] = deque()
        self._bytes = 0
        self._last = 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job, now: float) -> None:
        """One more, at ``now``."""
        self._jobs.append(job)
        self._bytes += job.most_bytes
        self._last = now

    def clear(self) -> list[Job]:
        """Take all of them out: they are not asked."""
        waiting = list(self._jobs)
        self._jobs.clear()
        self._bytes = 0
        return waiting

    def quiet_in(self, now: float) -> float:
        """Seconds until those that are there may go: when no more came for a while, or a file is full."""
        is_full = len(self._jobs) >= self._pace.most_requests or self._bytes >= self._pace.most_bytes
        return 0.0 if is_full else max(self._last + self._pace.quiet_s - now, 0.0)

    def take(self, now: float, bytes_out: int, is_any_out: bool) -> tuple[list[Job], str | None]:
        """The next file's requests, reserved in the budget, and the option that the one behind them would go beyond.

        None are taken while they still come, or while what is out has to come back first.
        """
        taken: list[Job] = []
        if not self._jobs or self.quiet_in(now) > 0:
            return taken, None
        size = 0
        while self._jobs and len(taken) < self._pace.most_requests:
            job = self._jobs[0]
            job.prompt = self._guess.prompt(job.request.messages)
            job.completion = self._guess.completion(job.request.sampling.get("max_tokens"))
            # Both vendors take one model a file.
            if taken and (size + job.most_bytes > self._pace.most_bytes or job.request.model != taken[0].request.model):
                break
            is_first = not taken and not is_any_out
            if not is_first and bytes_out + job.most_bytes > self.most_out:
                break
            spent = self._budget.spent_by(now, job.prompt, job.completion)
            if spent in _MAY_YET_FIT and not is_first:
                break
            if spent is not None:
                return taken, spent
            self._budget.reserve(job.number, job.prompt, job.completion)
            job.reserved = True
            size += job.most_bytes
            bytes_out += job.most_bytes
            self._bytes -= job.most_bytes
            taken.append(self._jobs.popleft())
        return taken, None
