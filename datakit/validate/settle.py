"""The end of a batch: its faults go into the report, its rows to the output or to the rejects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datakit.validate.batch import Batch
from datakit.validate.faults import Fault
from datakit.validate.mending import Mended
from datakit.validate.report import Report, told
from datakit.write import Sink
from registry.rows import BadRow, Row


def settle(batch: Batch, mended: Mapping[int, Mended], sink: Sink, report: Report) -> None:
    """Enter each row as good or as rejected, in order. Good rows that nothing was done to are passed on as they lie."""
    at = 0
    for index in sorted(batch.faults.keys() | batch.anew):
        faults = batch.faults.get(index, [])
        better = mended.get(index)
        left: Sequence[Fault] = better.left if better is not None else faults
        error = next((fault for fault in left if report.levels[fault.code] == "error"), None)
        number, offset = batch.numbers[index], batch.offset(index)
        for fault in better.done if better is not None else ():
            report.add(fault, batch.file, number, offset, mended=True)
        for fault in left:
            report.add(fault, batch.file, number, offset)
        report.mended[batch.file] += better is not None
        report.warned[batch.file] += bool(left) and error is None
        if error is None and better is None and index not in batch.anew:
            continue
        _pass_on(batch, at, index, sink)
        at = index + 1
        if error is not None:
            _reject(batch, index, error, faults, sink, report)
        else:
            row = batch.row(index)
            assert isinstance(row, Row)
            sink.accept(row, better.data if better is not None else row.data)
    _pass_on(batch, at, len(batch), sink)


def _reject(batch: Batch, index: int, error: Fault, faults: Sequence[Fault], sink: Sink, report: Report) -> None:
    more = {
        "code": error.code,
        "pointer": error.pointer,
        "offset": batch.offset(index),
        "faults": [told(fault, report.levels[fault.code]) for fault in faults],
    }
    report.rejected[batch.file] += 1
    sink.reject(_as_it_lies(batch, index), error.field, error.reason, more)


def _as_it_lies(batch: Batch, index: int) -> Row | BadRow:
    """A row for the rejects: with the text of its line, where it has one."""
    row = batch.read.get(index)
    if batch.screened is None or isinstance(row, BadRow):
        return batch.read[index]
    raw = batch.screened.line(index).decode("utf-8", "backslashreplace").rstrip()
    return BadRow(batch.file, batch.numbers[index], "", raw)


def _pass_on(batch: Batch, start: int, end: int, sink: Sink) -> None:
    """Accept the rows from ``start`` to ``end``, to which nothing was done."""
    screened = batch.screened
    if start == end:
        return
    if screened is None:
        for index in range(start, end):
            row = batch.read[index]
            assert isinstance(row, Row)
            sink.accept(row, row.data)
    elif sink.out is None:
        sink.accept_lines(b"", end - start)
    elif screened.regular:
        data = screened.block.data
        whole = start == 0 and end == len(batch)
        sink.accept_lines(data if whole else data[screened.starts[start] : screened.ends[end - 1] + 1], end - start)
    else:
        lines = (screened.line(index).strip() for index in range(start, end))
        sink.accept_lines(b"".join(line + b"\n" for line in lines), end - start)
