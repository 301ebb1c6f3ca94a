"""Makes batches, each once, and finds those that earlier runs made."""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle

from datakit.augment.batch.books import Books, Flight
from datakit.augment.batch.desk import Desk, Standing
from datakit.augment.batch.lines import input_line
from datakit.augment.batch.notes import Note, Notes
from datakit.augment.batch.pace import Pace
from datakit.augment.batch.patience import Patience
from datakit.augment.batch.told import counted, final
from datakit.augment.batch.waves import Job
from datakit.augment.failures import AGAIN, CallFailed, Kind

log = logging.getLogger("tunekit")


class Maker:
    """Makes batches at the desks in turn. Its methods raise ``CallFailed`` for what ends the run."""

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
        self._desks, self._turns, self._notes, self._books = desks, cycle(desks), notes, books
        self._provider, self._pace, self._clock = provider, pace, clock
        self._patience = Patience(books, pace, clock)

    def recall(self) -> None:
        """Take up the batches that earlier runs noted."""
        for note in self._notes.all():
            if note.provider == self._provider:
                keys = self._notes.keys(note.tag)
                is_unseen = not any(desk.url == note.url for desk in self._desks)
                due = float("inf") if is_unseen else 0.0
                flight = Flight(note, keys, len(keys), is_adopted=True, due=due, is_unseen=is_unseen)
                flight.wait = self._pace.first_look_s
                self._books.flights.append(flight)

    def send(self, jobs: Sequence[Job]) -> None:
        """Make one batch. It is noted before and after, so that no moment to be killed at has it made twice."""
        desk = next(self._turns)
        tag = uuid.uuid4().hex
        with tempfile.TemporaryFile() as file:
            for job in jobs:
                file.write(input_line(job.request, desk.endpoint))

            def upload() -> str:
                file.seek(0)
                return desk.upload(file, f"tunekit-{tag[:8]}.jsonl")

            input_file = self._patience.insist(upload)
        note = Note(tag, "", self._provider, desk.url, input_file, time.time())
        self._patience.pause(0)
        self._notes.intend(note, [job.request for job in jobs])
        standing = self._create(desk, note)
        self._notes.know(tag, standing.id)
        log.info("%s: %s sent to %s", standing.id, counted(len(jobs), "request"), desk.name)
        flight = Flight(replace(note, id=standing.id), {job.request.key for job in jobs}, len(jobs), desk=desk)
        flight.num_bytes = sum(job.most_bytes for job in jobs)
        flight.wait = self._pace.first_look_s
        flight.due = self._clock() + flight.wait
        self._books.sent(flight, list(jobs))

    def _create(self, desk: Desk, note: Note) -> Standing:
        """Have the batch made, once: where it is not known whether it was, the server's list tells."""
        began = self._clock()
        while True:
            try:
                return desk.create(note.input, note.tag)
            except CallFailed as failure:
                is_open = failure.kind in AGAIN  # it may have been made all the same
                if not is_open and failure.kind is not Kind.RATE_LIMIT:
                    self._notes.forget(note.tag)
                    raise final(failure) from None
                self._patience.pause(max(self._pace.lag_s, failure.retry_after or 0.0))
                found = self._patience.insist(lambda: desk.find(note.tag, note.input)) if is_open else None
                if found is not None:
                    return found
                if self._clock() - began > self._pace.patience_s:
                    self._notes.forget(note.tag)
                    raise final(failure) from None

    def search(self, flight: Flight) -> None:
        """Look for a batch that an earlier run was about to make when it was killed."""
        note = flight.note
        found = self._find(note)
        if found is None and (age := time.time() - note.created) < self._pace.lag_s:
            self._patience.pause(self._pace.lag_s - max(age, 0.0))
            found = self._find(note)
        if found is None:
            self._notes.forget(note.tag)
            self._books.unsend(flight)
            return
        self._notes.know(note.tag, found[1].id)
        flight.note, flight.desk = replace(note, id=found[1].id), found[0]

    def _find(self, note: Note) -> tuple[Desk, Standing] | None:
        for desk in self._desks:
            if desk.url == note.url:
                found = self._patience.insist(lambda desk=desk: desk.find(note.tag, note.input))  # type: ignore[misc]
                if found is not None:
                    return desk, found
        return None
