"""What one file of the corpus is: how it is made, and what convert and validate have to make of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Build = Callable[[Path], None]


@dataclass(frozen=True)
class Expect:
    """The exit code, the rows, and a part of what is said: in the error, in a reject's reason, or in a fault."""

    code: int
    rows_in: int = 0
    rows_out: int = 0
    says: str = ""


@dataclass(frozen=True)
class Case:
    """One file or folder. ``source`` is what the commands are given, ``limits`` what is lowered to make it small."""

    name: str
    build: Build
    convert: Expect
    validate: Expect
    source: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)
    to_json: tuple[Any, ...] | None = None  # the rows that convert has to write

    @property
    def src(self) -> str:
        return self.source or self.name


def refused(says: str) -> Expect:
    """The file as a whole: exit code 2, nothing written."""
    return Expect(2, says=says)


def rows(rows_in: int, rows_out: int, says: str = "") -> Expect:
    """Rows in and out; the rest are rejects."""
    return Expect(0, rows_in, rows_out, says)


def case(
    name: str,
    content: bytes | str | Build,
    convert: Expect,
    validate: Expect | None = None,
    *,
    source: str = "",
    limits: Mapping[str, int] | None = None,
    to_json: tuple[Any, ...] | None = None,
) -> Case:
    """A case. validate expects what convert does, unless something else is said."""
    build = content if callable(content) else _written(name, content)
    return Case(
        name,
        build,
        _with_code(convert, lambda e: e.rows_out == 0),
        _with_code(validate or convert, lambda e: e.rows_out < e.rows_in),
        source,
        limits or {},
        to_json,
    )


def _with_code(expect: Expect, is_fault: Callable[[Expect], bool]) -> Expect:
    if expect.code == 0 and is_fault(expect):
        return Expect(1, expect.rows_in, expect.rows_out, expect.says)
    return expect


def _written(name: str, content: bytes | str) -> Build:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: _write(folder / name, data)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def alpaca(output: Any = "a", **more: Any) -> dict[str, Any]:
    """A good row, or one with another answer."""
    return {"instruction": "How long?", "output": output, **more}


def jsonl(*values: Any) -> bytes:
    """JSON lines of values; text and bytes among them are lines as they stand."""
    return b"".join(
        (v if isinstance(v, bytes) else v.encode() if isinstance(v, str) else json.dumps(v).encode()) + b"\n"
        for v in values
    )


GOOD = jsonl(alpaca())
