"""Looks at batches, and takes in what came of those that have ended."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Sequence

from datakit.augment.batch.books import Books, Flight
from datakit.augment.batch.desk import Desk, Standing
from datakit.augment.batch.lines import Line, read_line
from datakit.augment.batch.notes import Notes
from datakit.augment.batch.pace import Pace
from datakit.augment.batch.patience import Left, Patience
from datakit.augment.batch.told import counted, faults_told, final, gone
from datakit.augment.failures import FATAL, CallFailed, Kind

log = logging.getLogger("tunekit")

MOST_BARE = 5  # looks at a batch that has ended, for files that are still to come
TOO_MANY_TOKENS = "token_limit_exceeded"


class Watch:
    """Looks at the batches of the books. Its methods raise ``CallFailed`` for what ends the run."""

    def __init__(
        self,
        desks: Sequence[Desk],
        notes: Notes,
        books: Books,
        *,
        provider: str,
        pace: Pace,
        clock: Callable[[], float],
    ) -> None:
        self._desks, self._notes, self._books = desks, notes, books
        self._provider, self._pace, self._clock = provider, pace, clock
        self._patience = Patience(books, pace, clock)

    def look(self, flight: Flight) -> None:
        """See where a batch stands, and take in what came of it where it has ended."""
        try:
            standing = self._standing(flight)
        except CallFailed as failure:
            if failure.kind in FATAL:
                raise
            now = self._clock()
            if flight.lost_since is None:
                flight.lost_since = now
                log.warning("%s cannot be asked about its batches now: %s", flight.note.url, failure)
            if now - flight.lost_since > self._pace.outage_s:
                raise final(failure) from None
            self._look_again(flight, failure.retry_after or 0.0)
            return
        flight.lost_since = None
        if standing is None:
            return
        if flight.is_adopted and flight.standing is None:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(flight.note.created))
            log.info("%s of %s: taken up again, %s", flight.note.id, when, counted(flight.size, "request"))
        flight.standing = standing
        if not standing.has_ended:
            self._look_again(flight)
        elif standing.status == "failed":
            self._refused(flight, standing)
        elif standing.done and not standing.output and flight.num_bare < MOST_BARE:
            flight.num_bare += 1
            self._look_again(flight)
        else:
            self._take_in(flight, standing)

    def _look_again(self, flight: Flight, least: float = 0.0) -> None:
        flight.due = self._clock() + max(flight.wait, least)
        flight.wait = min(2 * flight.wait, self._pace.most_look_s)

    def _standing(self, flight: Flight) -> Standing | None:
        """As its server tells; None where no account can see it, and nobody waits for it."""
        desks = [flight.desk] if flight.desk is not None else [d for d in self._desks if d.url == flight.note.url]
        for desk in desks:
            try:
                standing = desk.look(flight.note.id)
            except CallFailed as failure:
                if not gone(failure):
                    raise
                continue
            flight.desk, flight.is_unseen = desk, False
            return standing
        flight.is_unseen, flight.due = True, float("inf")
        if self._books.is_wanted(flight):
            who = "key" if desks else "--base-url"
            raise CallFailed(
                Kind.STOPPED,
                f"batch {flight.note.id or flight.note.tag} at {flight.note.url} holds requests of this run, and no {who} of this run can see "
                f"it. Use the one that made it, or remove {self._notes.path.name} to pay for them again",
                code="batch",
            )
        return None

    def _refused(self, flight: Flight, standing: Standing) -> None:
        """A batch failed as a whole: nothing of it was done."""
        self._notes.forget(flight.note.tag)
        others = len(self._books.flights) - 1
        why = faults_told(standing)
        if flight.is_adopted:
            log.warning("%s failed (%s): its requests are sent again", flight.note.id, why)
            self._books.unsend(flight)
            return
        if any(code == TOO_MANY_TOKENS for code, _ in standing.faults) and (others or flight.size > 1):
            # What the server lets wait is told in words only; half of what was too much is tried next.
            self._books.waves.most_out = self._books.bytes_out() / 2
            log.warning("%s failed (%s): its requests are sent in smaller batches", flight.note.id, why)
            self._books.unsend(flight)
            return
        with self._books.lock:
            self._books.stop(CallFailed(Kind.STOPPED, f"a batch was refused: {why}", code="batch"), leave=False)
            self._books.unsend(flight)

    def _take_in(self, flight: Flight, standing: Standing) -> None:
        """Put all that came into the store; what did not goes into the next batch. Only then the batch is forgotten."""
        desk = flight.desk
        assert desk is not None
        for name in (standing.output, standing.errors):
            if name:
                self._read(flight, desk, name)
        for key in sorted(flight.left):
            why = CallFailed(Kind.SERVER, f"the batch {standing.status} without an answer", code=standing.status)
            self._take(flight, Line(key, failure=why))
        books = self._books
        with books.lock:
            while flight.landing and books.store_error is None:
                books.lock.wait()
            if books.store_error is not None:
                raise Left
        self._notes.forget(flight.note.tag)
        with books.lock:
            books.flights.remove(flight)
        rest = flight.size - flight.answered
        log.info(
            "%s %s: %s, %s without", flight.note.id, standing.status, counted(flight.answered, "answer"), f"{rest:,}"
        )
        books.judge(flight)

    def _read(self, flight: Flight, desk: Desk, name: str) -> None:
        """One result file, line by line."""
        with tempfile.TemporaryFile() as file:
            try:
                self._patience.insist(lambda: desk.fetch(name, file))
            except CallFailed as failure:
                if not gone(failure):
                    raise
                log.warning("%s: the server has its file %s no more", flight.note.id, name)
                return
            for raw in file:
                line = read_line(raw, zhipu=self._provider == "zhipu")
                if line is not None:
                    self._take(flight, line)

    def _take(self, flight: Flight, line: Line) -> None:
        if self._books.is_left:
            raise Left  # what is taken in so far is kept; the notes stay, and the rest is read again
        self._books.take(flight, line, lambda key: self._notes.request(flight.note.tag, key))
