"""Where the rows of one command go: an output and a file of rejects, whole or not at all, and the manifest beside."""

from __future__ import annotations

import gzip
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from datakit.outcome import Outcome
from datakit.tables import WriteLine, delimited_writer, parquet_writer
from datakit.values import encode_row, tell_changes
from registry.atomic import atomic_file
from registry.errors import RowFault, UsageError, did_you_mean
from registry.manifest import Ledger, build_manifest, write_manifest
from registry.rows import BadRow, Row
from registry.sources import COMPRESSIONS, STDIN, container_of

log = logging.getLogger("tunekit")

STDOUT = "-"
REJECTS_ENDING = ".rejects.jsonl"
WriterOf = Callable[[IO[bytes], Path, Counter[str]], AbstractContextManager[WriteLine]]


@contextmanager
def _json_lines(handle: IO[bytes], folder: Path, changes: Counter[str]) -> Iterator[WriteLine]:
    yield lambda line: handle.write(line + b"\n")


@contextmanager
def _json_array(handle: IO[bytes], folder: Path, changes: Counter[str]) -> Iterator[WriteLine]:
    joint = b"[\n"

    def write(line: bytes) -> None:
        nonlocal joint
        handle.write(joint + line)
        joint = b",\n"

    yield write
    handle.write(b"[]\n" if joint == b"[\n" else b"\n]\n")


# container (see registry.sources) -> writer of rows that come as lines of JSON
WRITERS: dict[str, WriterOf] = {
    "jsonl": _json_lines,
    "json": _json_array,
    "csv": lambda handle, folder, changes: delimited_writer(handle, folder, ","),
    "tsv": lambda handle, folder, changes: delimited_writer(handle, folder, "\t"),
    "parquet": parquet_writer,
}
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


class Sink:
    """Takes each row once, as accepted or as rejected, and keeps the ledger of both."""

    def __init__(self, out: Path | None, rejects: Path | None) -> None:
        self.out, self.rejects = out, rejects
        self.ledger = Ledger()
        self.changes: Counter[str] = Counter()
        self._write: WriteLine | None = None
        self._files = ExitStack()
        self._rejects_handle: IO[bytes] | None = None

    def accept(self, row: Row, data: Mapping[str, Any]) -> bytes:
        """Write ``data``, which came of ``row``; return its JSON. Raises ``RowFault`` where it cannot be written."""
        line = encode_row(data, self.changes)
        if self._write is not None:
            self._write(line)
        self.ledger.rows_out += 1
        return line

    def reject(self, row: Row | BadRow, field: str, reason: str) -> None:
        """Write ``row`` aside with the field and the reason, and count it under the reason's family."""
        self.ledger.rejected[family(field, reason)] += 1
        if self.rejects is None:
            return
        if self._rejects_handle is None:
            self._rejects_handle = self._files.enter_context(atomic_file(self.rejects))
        raw = row.raw if isinstance(row, BadRow) else raw_text(row.data)
        fault = {"file": row.file, "row": row.number, "field": field, "reason": reason, "raw": raw}
        self._rejects_handle.write(encode_row(fault, Counter()) + b"\n")


@contextmanager
def open_sink(out: str | Path | None, rejects: Path | None, sources: Sequence[str]) -> Iterator[Sink]:
    """A sink whose files appear together when the block ends well; where it does not, nothing has changed.

    ``out`` None keeps no rows, ``-`` writes JSONL to stdout. Rejects go beside ``out`` by default; where nothing
    was rejected there is no such file, and an older one is removed. Raises ``UsageError`` for targets that cannot
    be written or would overwrite a source, ``OSError`` as the system gives it.
    """
    to_stdout = str(out) == STDOUT
    target = None if out is None or to_stdout else check_target(out, sources)
    if rejects is None and target is not None:
        rejects = rejects_path(target)
    if rejects is not None:
        check_target(rejects, sources, endings=(".jsonl",))
        if target is not None and _same_file(rejects, target):
            raise UsageError("rows and rejects cannot go to the same file", where=str(rejects))
    sink = Sink(target, rejects)
    with sink._files as files:
        if target is not None:
            handle = files.enter_context(atomic_file(target))
            with _writer(handle, target, sink.changes) as sink._write:
                yield sink
            _flush(handle)
        elif to_stdout:
            with _json_lines(sys.stdout.buffer, Path(), sink.changes) as sink._write:
                yield sink
            sys.stdout.buffer.flush()
        else:
            yield sink
        if sink._rejects_handle is not None:
            # Flushed before either file gets its name: a full disk shows here, while all of it can be taken back.
            _flush(sink._rejects_handle)
    if sink.rejects is not None and sink._rejects_handle is None:
        sink.rejects.unlink(missing_ok=True)


@contextmanager
def _writer(handle: IO[bytes], target: Path, changes: Counter[str]) -> Iterator[WriteLine]:
    writer = WRITERS[str(container_of(target))]
    ending = target.suffix.lower()
    if ending == ".gz":
        # No name and no time inside, so that the same rows give the same bytes.
        with (
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=handle, mtime=0) as packed,
            writer(packed, target.parent, changes) as write,  # type: ignore[arg-type]
        ):
            yield write
    elif ending == ".zst":
        import pyarrow as pa

        stream = pa.CompressedOutputStream(pa.PythonFile(_KeptOpen(handle), "w"), "zstd")
        with stream, writer(stream, target.parent, changes) as write:
            yield write
    else:
        with writer(handle, target.parent, changes) as write:
            yield write


class _KeptOpen:
    """A file as pyarrow writes to it, whose closing is left to the one who opened it."""

    closed = False

    def __init__(self, handle: IO[bytes]) -> None:
        self.write, self.flush = handle.write, handle.flush

    def close(self) -> None:
        pass


def _flush(handle: IO[bytes]) -> None:
    handle.flush()
    os.fsync(handle.fileno())


def check_target(out: str | Path, sources: Sequence[str], *, endings: Sequence[str] = ENDINGS) -> Path:
    """``out`` as a path that may be written. Raises ``UsageError`` for folders, unknown endings and the sources."""
    path = Path(out)
    if path.is_dir():
        raise UsageError("this is a folder, a file is needed", where=str(out), mend=f"For example {path / f'rows{endings[0]}'}")
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    packed = plain is not path
    if plain.suffix.lower() not in endings or (packed and (plain.suffix.lower() == ".parquet" or endings is not ENDINGS)):
        hint = did_you_mean(path.suffix, endings)
        raise UsageError(
            f'"{path.suffix}" is not a kind of file that is written here',
            where=str(out),
            mend=f"{hint} Known endings: {' '.join(endings)}"
            + ("; all but .parquet also with .gz or .zst." if endings is ENDINGS else "."),
        )
    for source in sources:
        if source != STDIN and _same_file(path, source):
            raise UsageError(
                "this file is one of the sources, and writing it would destroy them",
                where=str(out),
                mend="Choose another name for the output.",
            )
    return path


def _same_file(one: str | Path, other: str | Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def rejects_path(out: Path) -> Path:
    """Where the rejects of ``out`` go when nothing else is said: ``rows.jsonl`` → ``rows.jsonl.rejects.jsonl``."""
    return out.with_name(out.name + REJECTS_ENDING)


def raw_text(data: Mapping[str, Any]) -> str:
    """A row as JSON text for people and for a second try; what JSON cannot hold is spelled as Python does."""
    try:
        return encode_row(data, Counter()).decode()
    except RowFault:
        return str(dict(data))[:10_000]


def family(field: str, reason: str) -> str:
    """What a reason has in common with others of its kind: no numbers, no quoted values, no explanations.

    ``messages[3]`` and ``text belongs here, not a number (42)`` → ``messages[]: text belongs here, not a number``
    """
    short = re.split(r" \(|; |: byte | at column | at offset ", reason)[0]
    short = re.sub(r"\d+", "N", re.sub(r'"[^"]*"', '"…"', short))
    place = re.sub(r"\[\d+\]", "[]", field)
    return f"{place}: {short}" if field else short


def close_books(
    command: str, options: Mapping[str, Any], sources: Sequence[str], sink: Sink, details: Mapping[str, Any]
) -> Outcome:
    """Check that no row went missing, write the manifest beside the output, and sum the command up."""
    ledger = sink.ledger
    ledger.check()
    rejects = sink.rejects if ledger.num_rejected and sink.rejects else None
    if sink.out is not None:
        outputs = [sink.out, rejects] if rejects else [sink.out]
        manifest = build_manifest(command, options, sources, ledger, outputs)
        changed = {how: count for how, count in sink.changes.items() if count}
        write_manifest(sink.out, manifest | {"changed_values": changed, "details": dict(details)})
    tell_changes(sink.changes)
    return Outcome(
        command,
        rows_in=ledger.rows_in,
        rows_out=ledger.rows_out,
        rejected=dict(ledger.rejected.most_common()),
        outputs=(sink.out,) if sink.out is not None else (),
        rejects_file=rejects,
        seconds=ledger.seconds,
        details=dict(details),
    )
