"""What holds for any bytes in a file: rows or a plain refusal, never another exception, and no row lost."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from pathlib import Path

from datakit.convert import convert_rows
from datakit.validate import validate_rows
from registry.errors import DataError, UsageError
from registry.rows import BadRow, Row, read_rows

# A file of any kind is refused with UsageError; Parquet as a target with rows of no common type, too.
Refused = (UsageError, DataError)


def reading_keeps_its_promises(path: Path) -> list[Row | BadRow]:
    """Read ``path``; return its rows, none where it is refused."""
    found: list[Row | BadRow] = []
    last = 0
    try:
        for row in read_rows([path]):
            assert row.number > last, "rows come in order, each with a number of its own"
            last = row.number
            if isinstance(row, Row):
                assert type(row.data) is dict
                assert all(isinstance(name, str) for name in row.data)
            else:
                assert row.reason
                assert isinstance(row.raw, str)
            found.append(row)
    except Refused as error:
        told = str(error)
    else:
        return found
    assert str(path) in told, "the file is named"
    return []


def validating_keeps_its_promises(path: Path, *, fix: bool = False) -> None:
    """Check ``path`` with a file for the clean rows; they and the rejects are all there were, and clean rows are clean."""
    out = path.with_name("clean.jsonl")
    _passes_all(path, out, lambda: validate_rows([path], clean=out, fix=fix))
    if out.exists() and out.stat().st_size:
        again = validate_rows([out])
        assert again.num_rejected == 0, f"clean rows are rejected: {again.rejected}"


def converting_keeps_its_promises(path: Path) -> None:
    """Convert ``path``; the rows written and the rejects are all there were."""
    out = path.with_name("converted.jsonl")
    _passes_all(path, out, lambda: convert_rows([path], out))


def _passes_all(path: Path, out: Path, run: Callable[[], object]) -> None:
    rejects = out.with_name(out.name + ".rejects.jsonl")
    manifest = out.with_name(out.name + ".manifest.json")
    for old in (out, rejects, manifest):
        old.unlink(missing_ok=True)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            outcome = run()
        except Refused:
            assert not out.exists(), "what is refused leaves nothing"
            assert not manifest.exists()
            return
    told = outcome.as_json()  # type: ignore[attr-defined]
    assert told["rows_in"] == told["rows_out"] + sum(told["rejected"].values())
    assert _lines(out) == told["rows_out"]
    assert _lines(rejects) == sum(told["rejected"].values())


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def be_quiet() -> None:
    """No warnings: every other file of a fuzzer earns one."""
    logging.getLogger("tunekit").setLevel(logging.CRITICAL)
