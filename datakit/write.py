"""Where the rows of one command go: an output and a file of rejects, whole or not at all, and the manifest beside."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from datakit.batch_writer import ParquetLines
from datakit.outcome import Outcome
from datakit.parts import Parts
from datakit.stale import files_of_earlier_run
from datakit.tables import WriteLine, delimited_writer, parquet_writer
from datakit.targets import REJECTS_ENDING as REJECTS_ENDING
from datakit.targets import Target, same_file, target_of
from datakit.targets import check_target as check_target
from datakit.together import Together
from datakit.values import encode_row, tame, tell_changes
from registry.digest import Digests, hashing
from registry.errors import RowFault, UsageError
from registry.manifest import Ledger, build_manifest
from registry.remote import is_remote, spelled
from registry.rows import BadRow, Row
from registry.sources import STDIN, container_of

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("tunekit")

STDOUT = "-"
WriterOf = Callable[[Parts, Counter[str]], AbstractContextManager[WriteLine]]


class Lines:
    """The writer of JSON lines, which takes whole blocks of them as well."""

    def __init__(self, first: IO[bytes], parts: Parts | None) -> None:
        self._parts = parts
        self._write = first.write
        self._shard_rows = (parts.shard_rows if parts else None) or math.inf
        self._room = self._shard_rows  # rows that the file at hand still takes

    def __call__(self, line: bytes) -> None:
        if not self._room:
            self._begin_next()
        self._write(line + b"\n")
        self._room -= 1

    def block(self, data: bytes, count: int) -> None:
        """``count`` lines, each ended by a line break, over as many files as they need."""
        start = 0
        while count > self._room:
            if self._room:
                end = _end_of_lines(data, start, int(self._room))
                self._write(memoryview(data)[start:end])
                start, count = end, count - int(self._room)
            self._begin_next()
        self._write(memoryview(data)[start:] if start else data)
        self._room -= count

    def _begin_next(self) -> None:
        if self._parts is not None:
            self._write = self._parts.next().write
            self._room = self._shard_rows


def _end_of_lines(data: bytes, start: int, count: int) -> int:
    """The offset behind ``count`` lines from ``start`` on."""
    for _ in range(count):
        start = data.index(b"\n", start) + 1
    return start


@contextmanager
def _json_lines(parts: Parts, changes: Counter[str]) -> Iterator[WriteLine]:
    yield Lines(parts.next(), parts)


@contextmanager
def _json_array(parts: Parts, changes: Counter[str]) -> Iterator[WriteLine]:
    handle, joint, rows = parts.next(), b"[\n", 0

    def write(line: bytes) -> None:
        nonlocal handle, joint, rows
        if rows == parts.shard_rows:
            handle.write(b"\n]\n")
            handle, joint, rows = parts.next(), b"[\n", 0
        handle.write(joint + line)
        joint, rows = b",\n", rows + 1

    yield write
    handle.write(b"\n]\n" if rows else b"[]\n")


# container (see registry.folders) -> writer of rows that come as lines of JSON
WRITERS: dict[str, WriterOf] = {
    "jsonl": _json_lines,
    "json": _json_array,
    "csv": lambda parts, changes: delimited_writer(parts.next, parts.shard_rows, parts.scratch(), ","),
    "tsv": lambda parts, changes: delimited_writer(parts.next, parts.shard_rows, parts.scratch(), "\t"),
    "parquet": lambda parts, changes: parquet_writer(parts.next, parts.shard_rows, parts.scratch(), changes),
}


class Sink:
    """Takes each row once, as accepted or as rejected, and keeps the ledger of both."""

    def __init__(
        self, target: Target | None, rejects: str | None, files: Together, shard_rows: int | None = None
    ) -> None:
        self.ledger = Ledger()
        self.changes: Counter[str] = Counter()
        self.digests: Digests | None = None  # of the sources, where the manifest will tell them
        self._target, self._rejects, self._files = target, rejects, files
        self._parts = Parts(target, files, shard_rows) if target is not None else None
        self._write: WriteLine | None = None
        self._formatting = ExitStack()  # the writer, closed before the files under it are named

    @property
    def out(self) -> Path | str | None:
        """The output as a whole; None where no row is kept, or rows go to stdout."""
        return None if self._target is None else _as_path(self._target.name)

    @property
    def rejects(self) -> Path | str | None:
        """Where rejected rows go; None where they are only counted."""
        return None if self._rejects is None else _as_path(self._rejects)

    @property
    def scratch(self) -> Path | None:
        """A folder for temporary files, on the disk that must have room for the output; None: the system's own."""
        return self._parts.scratch() if self._parts is not None else None

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

    @property
    def takes_lines(self) -> bool:
        """Whether ``accept_lines`` passes a block on as it is: JSON lines in any compression, or no rows kept at all."""
        return self._write is None or isinstance(self._write, Lines)

    def accept_lines(self, data: bytes, count: int, changes: Mapping[str, int] | None = None) -> None:
        """Write ``count`` rows that are spelled already: lines of JSON, each ended by ``\\n``.

        ``changes`` is what spelling them changed (see ``datakit.values``). Targets of other kinds take them line by line.
        """
        if isinstance(self._write, Lines):
            self._write.block(data, count)
        elif self._write is not None:
            for line in data.split(b"\n")[:-1]:
                self._write(line)
        self.changes.update(changes or {})
        self.ledger.rows_out += count

    @property
    def takes_batches(self) -> bool:
        """Whether record batches can be written with the types they have: the output is Parquet."""
        return isinstance(self._write, ParquetLines)

    def begin_batches(self, schema: pa.Schema) -> None:
        """All rows will come by ``accept_batch``, as batches of ``schema``."""
        assert isinstance(self._write, ParquetLines)
        self._write.batches.begin(schema)

    def accept_batch(self, batch: pa.RecordBatch) -> None:
        """Write the rows of a record batch."""
        assert isinstance(self._write, ParquetLines)
        self._write.batches.write(batch)
        self.ledger.rows_out += batch.num_rows

    def reject(self, row: Row | BadRow, field: str, reason: str, more: Mapping[str, Any] | None = None) -> None:
        """Write ``row`` aside with the field, the reason and what ``more`` there is, counted under the reason's family."""
        self.ledger.rejected[family(field, reason)] += 1
        if self._rejects is None:
            return
        raw = row.raw if isinstance(row, BadRow) else raw_text(row.data)
        fault = {"file": row.file, "row": row.number, "field": field, "reason": reason, **(more or {}), "raw": raw}
        self._files.open(self._rejects).write(encode_row(fault, Counter()) + b"\n")

    def close_books(
        self,
        command: str,
        options: Mapping[str, Any],
        sources: Sequence[str],
        details: Mapping[str, Any],
        aside: Sequence[str] = (),
    ) -> Outcome:
        """Check that no row went missing, write the manifest, and sum the command up; call it when all rows passed.

        All of it is on the disk before any file gets its name: a full disk shows here, while nothing has changed.
        ``aside`` are other files of rows that were left out; as the rejects, they may not have been needed.
        """
        self._formatting.close()
        if self._parts is not None:
            self._parts.close()
        self.ledger.check()
        told: dict[str, Any] = tame(details, Counter())
        made = self._parts.names if self._parts else []
        rejects = self._rejects if self._rejects is not None and self._rejects in self._files else None
        left_out = [file for file in (rejects, *aside) if file is not None and file in self._files]
        for file in (*made, *left_out):
            self._files.settle(file)
        if self._target is not None:
            manifest = build_manifest(command, options, sources, self.ledger, digests=self.digests)
            manifest["outputs"] = [self._files.describe(file) for file in made]
            manifest["outputs"] += [self._files.describe(file) | {"rejects": True} for file in left_out]
            if self._parts and self._parts.shard_rows:
                manifest["shard_rows"] = self._parts.shard_rows
            changed = {how: count for how, count in self.changes.items() if count}
            manifest = tame(manifest | {"changed_values": changed, "details": told}, Counter())
            for old in files_of_earlier_run(self._target, keep=(*made, *sources)):
                self._files.remove(old)
            spelled = orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            self._files.open(self._target.manifest).write(spelled)
            self._files.settle(self._target.manifest)
        tell_changes(self.changes)
        return Outcome(
            command,
            rows_in=self.ledger.rows_in,
            rows_out=self.ledger.rows_out,
            rejected=tame(dict(self.ledger.rejected.most_common()), Counter()),
            outputs=tuple(map(_as_path, made)),
            rejects_file=_as_path(rejects) if rejects is not None else None,
            seconds=self.ledger.seconds,
            details=told,
            filtered=dict(self.ledger.filtered.most_common()),
            rows_added=self.ledger.added,
        )


def _as_path(name: str) -> Path | str:
    return name if is_remote(name) else Path(name)


@contextmanager
def open_sink(
    out: str | Path | None,
    rejects: str | Path | None,
    sources: Sequence[str],
    shard_rows: int | None = None,
    *,
    together: Together | None = None,
) -> Iterator[Sink]:
    """A sink whose files appear together when the block ends well; where it does not, nothing has changed.

    ``out`` None keeps no rows, ``-`` writes JSONL to stdout. With ``shard_rows`` it is a name such as
    ``part-{:05d}.jsonl``, and each file gets that many rows; shards that an earlier run of the same output left are
    removed. Rejects go beside ``out`` by default; where nothing was rejected there is no such file, and an older one
    is removed. ``together`` shares the moment of naming with other sinks, and leaves it to the caller.
    Raises ``UsageError`` for targets that cannot be written or would overwrite a source, ``OSError`` as the system
    gives it.
    """
    to_stdout = str(out) == STDOUT
    if shard_rows is not None and (out is None or to_stdout):
        raise UsageError("shards need files to go to", where=f"--shard-rows {shard_rows}", mend="Name one with -o.")
    target = None if out is None or to_stdout else target_of(out, sources, shard_rows)
    aside = _rejects_of(target, rejects, sources)
    with ExitStack() as naming:
        files = together if together is not None else naming.enter_context(Together())
        sink = Sink(target, aside, files, shard_rows)
        if target is not None:
            local = [source for source in sources if source != STDIN and not is_remote(source)]
            sink.digests = naming.enter_context(hashing(local))
        try:
            with sink._formatting as formatting:
                if sink._parts is not None:
                    writer = WRITERS[str(container_of(sink._parts.name))]
                    sink._write = formatting.enter_context(writer(sink._parts, sink.changes))
                elif to_stdout:
                    sink._write = Lines(sys.stdout.buffer, None)
                yield sink
            if sink._parts is not None:
                sink._parts.close()
            if to_stdout:
                sys.stdout.buffer.flush()
        except BaseException:
            if sink._parts is not None:
                sink._parts.abandon()
            raise
        if aside is not None and aside not in files:
            files.remove(aside)


def _rejects_of(target: Target | None, rejects: str | Path | None, sources: Sequence[str]) -> str | None:
    if rejects is None:
        rejects = target.rejects if target is not None else None
    if rejects is None:
        return None
    aside = spelled(rejects)
    check_target(aside, sources, endings=(".jsonl",))
    if target is not None and (same_file(aside, target.name) or target.owns(aside)):
        raise UsageError("rows and rejects cannot go to the same file", where=aside)
    return aside


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
