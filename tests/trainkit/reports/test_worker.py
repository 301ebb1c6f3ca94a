"""Whatever a tracker does, the run neither waits nor ends."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.trainkit.reports.conftest import report_settings
from trainkit.reports import Report, Reports, open_reports
from trainkit.reports.base import Opening


class Book:
    """A tracker that writes everything down, and raises what it is told to."""

    run_id = "book"

    def __init__(self, *faults: BaseException | None, stuck: threading.Event | None = None) -> None:
        self.faults, self.stuck = list(faults), stuck
        self.lines: list[Any] = []

    def log(self, step: int, numbers: Any) -> None:
        if self.stuck:
            self.stuck.wait(30)
        fault = self.faults.pop(0) if self.faults else None
        if fault:
            raise fault
        self.lines.append((step, dict(numbers)))

    def finish(self, status: str) -> None:
        self.lines.append(status)


def reports_to(folder: Path, book: Any) -> Reports:
    """Reports with one tracker: ``book``, or the error that opening it raises. pytest stands in for its package."""

    def open_book(opening: Opening) -> Any:
        if isinstance(book, BaseException):
            raise book
        return book

    return open_reports(report_settings("book"), folder, {}, reports={"book": Report(open_book, "pytest", "1")})


def test_lines_arrive_in_order_and_only_their_numbers(tmp_path: Path) -> None:
    book = Book()
    with reports_to(tmp_path, book) as reports:
        reports.log(1, {"loss": 2.0, "name": "x", "eval_loss": None, "done": True})
        reports.log(2, {"name": "nothing to tell"})
        reports.log(3, {"loss": 1})
    assert book.lines == [(1, {"loss": 2.0}), (3, {"loss": 1}), "finished"]


@pytest.mark.parametrize(("error", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "stopped")])
def test_a_tracker_is_told_how_the_run_ended(tmp_path: Path, error: type[BaseException], status: str) -> None:
    book = Book()
    with pytest.raises(error), reports_to(tmp_path, book):
        raise error
    assert book.lines == [status]


def test_a_tracker_that_cannot_start_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tunekit"), reports_to(tmp_path, SystemExit("no network")) as reports:
        reports.log(1, {"loss": 1.0})
    assert [r.message for r in caplog.records] == [
        "book could not be started (SystemExit: no network): it is told nothing more; training goes on"
    ]


def test_single_faults_are_lived_with_and_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book = Book(OSError("disk full"), None, OSError("disk full"))
    with caplog.at_level(logging.WARNING, "tunekit"), reports_to(tmp_path, book) as reports:
        for step in range(1, 5):
            reports.log(step, {"loss": 1.0})
    assert [line if isinstance(line, str) else line[0] for line in book.lines] == [2, 4, "finished"]
    assert [r.message for r in caplog.records] == ["book failed at step 1 (OSError: disk full); training goes on"]


def test_a_tracker_that_fails_again_and_again_is_let_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book = Book(*(OSError("gone") for _ in range(5)))
    with caplog.at_level(logging.WARNING, "tunekit"), reports_to(tmp_path, book) as reports:
        for step in range(1, 9):
            reports.log(step, {"loss": 1.0})
    assert book.lines == []
    assert caplog.records[-1].message.startswith("book failed 5 times in a row")


def test_a_tracker_that_hangs_delays_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainkit.reports.worker.HELD", 3)
    let_go = threading.Event()
    book = Book(stuck=let_go)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "tunekit"):
        reports = reports_to(tmp_path, book)
        for step in range(1, 20):
            reports.log(step, {"loss": 1.0})
        reports.finish("finished", wait_s=0.1)
    assert time.monotonic() - began < 20, "far below the 30 seconds that it hangs for"
    let_go.set()
    assert "does not keep up" in caplog.text
    assert "still not done" in caplog.text
