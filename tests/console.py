"""Runs a console script in this process, and checks after each run what holds for all of them."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry.atomic import TEMPORARY_MARK


@dataclass(frozen=True)
class Ran:
    """What one command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)


def console(
    name: str,
    main: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    folder: Path,
) -> Callable[..., Ran]:
    """``run("convert", "a.csv", …)`` within ``folder``; no traceback, no temporary file left."""
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as end:
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capfd.readouterr()
        assert "Traceback" not in err + out
        assert [p for p in folder.rglob("*") if TEMPORARY_MARK in p.name] == []
        return Ran(int(end.value.code or 0), out, err)

    return run
