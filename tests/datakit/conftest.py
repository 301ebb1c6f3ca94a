"""Runs datakit as its console script does, in this process, and checks after each run what holds for all of them."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from datakit.cli import main
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


@pytest.fixture
def datakit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ran]:
    """``datakit("convert", "a.csv", "-o", "b.jsonl")`` within ``tmp_path``; no traceback, no temporary file left."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["datakit", *map(str, arguments)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        out, err = capfd.readouterr()
        assert "Traceback" not in err + out
        assert [p for p in tmp_path.rglob("*") if TEMPORARY_MARK in p.name] == []
        return Ran(int(end.value.code or 0), out, err)

    return run


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """``write_rows("a.jsonl", {...}, {...})`` as JSON lines within ``tmp_path``."""

    def write(name: str, *rows: dict[str, Any]) -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        return path

    return write


@pytest.fixture
def read_rows_back(tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """The rows of a JSONL file within ``tmp_path``."""
    return lambda name: [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()]
