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

import orjson

from datakit.outcome import Outcome
from datakit.tables import WriteLine, delimited_writer, parquet_writer
from datakit.values import encode_row, tame, tell_changes
from registry.atomic import atomic_file
from registry.errors import RowFault, UsageError, did_you_mean
from registry.manifest import Ledger, build_manifest, manifest_path
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
        self._formatting = ExitStack()  # the writer, closed before the files under it are named
        self._files = ExitStack()
        self._handles: dict[Path, IO[bytes]] = {}  # target -> its temporary file

    def accept(self, row: Row, data: Mapping[str, Any]) -> bytes:
        """Write ``data``, which came of ``row``; return its JSON. Raises ``RowFault`` where it cannot be written.

        Where no row is kept, there is nothing to spell, and the JSON is empty.
        """
        line = b""
        if self._write is not None:
            line = encode_row(data, self.changes)
            self._write(line)
        self.ledger.rows_out += 1
        return line

    def reject(self, row: Row | BadRow, field: str, reason: str) -> None:
        """Write ``row`` aside with the field and the reason, and count it under the reason's family."""
        self.ledger.rejected[family(field, reason)] += 1
        if self.rejects is None:
            return
        raw = row.raw if isinstance(row, BadRow) else raw_text(row.data)
        fault = {"file": row.file, "row": row.number, "field": field, "reason": reason, "raw": raw}
        self._open(self.rejects).write(encode_row(fault, Counter()) + b"\n")

    def close_books(
        self, command: str, options: Mapping[str, Any], sources: Sequence[str], details: Mapping[str, Any]
    ) -> Outcome:
        """Check that no row went missing, write the manifest, and sum the command up; call it when all rows passed.

        All of it is on the disk before any file gets its name: a full disk shows here, while nothing has changed.
        """
        self._formatting.close()
        self.ledger.check()
        told: dict[str, Any] = tame(details, Counter())
        rejects = self.rejects if self.rejects in self._handles else None
        manifest_file = self._handles.get(manifest_path(self.out)) if self.out is not None else None
        data = {path: handle for path, handle in self._handles.items() if handle is not manifest_file}
        for handle in data.values():
            _flush(handle)
        if manifest_file is not None:
            written = [Path(handle.name) for handle in data.values()]
            manifest = build_manifest(command, options, sources, self.ledger, written)
            for entry, path in zip(manifest["outputs"], data, strict=True):
                entry["file"] = str(path)
            changed = {how: count for how, count in self.changes.items() if count}
            manifest = tame(manifest | {"changed_values": changed, "details": told}, Counter())
            manifest_file.write(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            _flush(manifest_file)
        tell_changes(self.changes)
        return Outcome(
            command,
            rows_in=self.ledger.rows_in,
            rows_out=self.ledger.rows_out,
            rejected=tame(dict(self.ledger.rejected.most_common()), Counter()),
            outputs=(self.out,) if self.out is not None else (),
            rejects_file=rejects,
            seconds=self.ledger.seconds,
            details=told,
        )

    def _open(self, target: Path) -> IO[bytes]:
        if target not in self._handles:
            self._handles[target] = self._files.enter_context(atomic_file(target))
        return self._handles[target]


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
    with sink._files, sink._formatting as formatting:
        if target is not None:
            sink._open(manifest_path(target))  # first in, last to get its name
            sink._write = formatting.enter_context(_writer(sink._open(target), target, sink.changes))
        elif to_stdout:
            sink._write = formatting.enter_context(_json_lines(sys.stdout.buffer, Path(), sink.changes))
        yield sink
        if to_stdout:
            sys.stdout.buffer.flush()
    if rejects is not None and rejects not in sink._handles:
        rejects.unlink(missing_ok=True)


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
        raise UsageError(
            "this is a folder, a file is needed", where=str(out), mend=f"For example {path / f'rows{endings[0]}'}"
        )
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    packed = plain is not path
    if plain.suffix.lower() not in endings or (
        packed and (plain.suffix.lower() == ".parquet" or endings is not ENDINGS)
    ):
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
    """A row as JSON text for people and for a second try; what JSON cannot spell is told in Python's words."""
    try:
        return encode_row(data, Counter()).decode()
    except RowFault as fault:
        try:
            return repr(dict(data))
        except RecursionError:
            return f"({fault.reason})"


def family(field: str, reason: str) -> str:
    """What a reason has in common with others of its kind: no numbers, no quoted values, no explanations.

    ``messages[3]`` and ``text belongs here, not a number (42)`` → ``messages[]: text belongs here, not a number``
    """
    short = re.split(r" \(|; |: byte | at column | at offset ", reason)[0]
    short = re.sub(r"(?<![\w-])\d+", "N", re.sub(r'"[^"]*"', '"…"', short))
    place = re.sub(r"\[\d+\]", "[]", field)
    return f"{place}: {short}" if field else short
