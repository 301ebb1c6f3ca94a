"""The examples of a run with the account of their rows: what was rejected and why, and what is said about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from registry.atomic import atomic_file
from registry.encoded.rows import EncodedRows
from registry.errors import RowFault, UsageError
from registry.manifest import Ledger
from registry.rows import BadRow, read_rows
from trainkit.config import RunConfig
from trainkit.data.views import Joined, View

SHOWN = 5  # reasons

log = logging.getLogger("tunekit")


@dataclass
class Rejected:
    """A row that is not trained on: where it lies, why, and what stands there (None: to be looked up)."""

    file: str
    row: int
    fault: RowFault
    raw: Any = None
    dataset: str = ""


@dataclass
class Examples:
    """The encoded data of a run. ``evals`` are the sets to evaluate on by name ("" for the only one); ``chosen`` is how
    many rows of each dataset the run looks at, ``streamed_cut`` what ``cut`` counts of rows that were streamed."""

    train: View
    evals: dict[str, View] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    rejected: list[Rejected] = field(default_factory=list)
    sets: dict[str, EncodedRows] = field(default_factory=dict)
    chosen: dict[str, int] = field(default_factory=dict)
    dropped_tokens: int = 0
    special_texts: int = 0
    streamed_cut: tuple[int, int] = (0, 0)

    @property
    def eval(self) -> Joined:
        """All that is evaluated on, one set after another."""
        return Joined(list(self.evals.values()))

    def digest(self) -> str:
        """A hash of what decides every id and label in order: two runs on equal digests see equal data."""
        return Joined([self.train, *self.evals.values()]).digest()

    def cut(self) -> tuple[int, int]:
        """How many sequences the length budget cut, and how many of their tokens it left out."""
        cut = Joined([self.train, *self.evals.values()]).cut
        streamed, streamed_tokens = self.streamed_cut
        return int((cut > 0).sum()) + streamed, int(cut.sum()) + streamed_tokens

    @property
    def rejects(self) -> list[dict[str, Any]]:
        """A line for each rejected row: its file and number, the field at fault, the reason, and what stands there."""
        raws = self._raws() if any(one.raw is None for one in self.rejected) else {}
        return [
            {
                "file": one.file, "row": one.row, "field": one.fault.field, "reason": one.fault.reason,
                "raw": raws.get((one.file, one.row)) if one.raw is None else one.raw,
            }
            for one in self.rejected
        ]  # fmt: skip

    def write_rejects(self, path: Path) -> None:
        """Write ``rejects``, or remove a file of an earlier run where there are none."""
        if not self.rejected:
            path.unlink(missing_ok=True)
            return
        with atomic_file(path) as handle:
            for line in self.rejects:
                handle.write(orjson.dumps(line, default=str) + b"\n")

    def _raws(self) -> dict[tuple[str, int], Any]:
        """What stands in the rejected rows: kept by the encoder, or read once more."""
        wanted = {(one.file, one.row) for one in self.rejected if one.raw is None}
        found: dict[tuple[str, int], Any] = {}
        for rows in self.sets.values():
            for reject in rows.rejects():
                if (place := (reject["file"], reject["row"])) in wanted:
                    found[place] = reject["raw"]
        for file in dict.fromkeys(file for file, _ in wanted - found.keys()):
            left = {row for one, row in wanted - found.keys() if one == file}
            for row in read_rows([file]):
                if row.number in left:
                    found[file, row.number] = row.raw if isinstance(row, BadRow) else row.data
                    left.discard(row.number)
                if not left:
                    break
        return found


def reason_of(fault: RowFault) -> str:
    """A fault as rejected rows are counted by it."""
    return f'field "{fault.field}": {fault.reason}' if fault.field != "row" else fault.reason


def special_texts_told(count: int, config: RunConfig) -> str:
    """What becomes of the special tokens that stand as text on the user's side."""
    if config.strict or config.data.special_text == "keep":
        what = f"is read as one ({'compat: strict' if config.strict else 'special_text: keep'})"
    else:
        what = "stays plain text (special_text: keep lets it be one)"
    times = "time" if count == 1 else "times"
    return f"what looks like a special token stands {count:,} {times} in texts of the user's side; it {what}"


def warn_of_rows(found: Examples, config: RunConfig) -> None:
    """Say which rows were cut, which hold special tokens as text, and why some were rejected."""
    num_cut, cut_tokens = found.cut()
    if num_cut:
        log.warning(
            "cutoff_len %d cuts %d sequences; %d of their tokens are left out",
            config.data.cutoff_len,
            num_cut,
            cut_tokens,
        )
    if found.special_texts:
        log.warning("%s", special_texts_told(found.special_texts, config))
    first: dict[str, Rejected] = {}
    for one in found.rejected:
        first.setdefault(reason_of(one.fault), one)
    for reason, count in found.ledger.rejected.most_common(SHOWN):
        place = (
            f" ({'first: ' if count > 1 else ''}{first[reason].file}, row {first[reason].row})"
            if reason in first
            else ""
        )
        log.warning("%d rejected: %s%s", count, reason, place)
    more = len(found.ledger.rejected) - SHOWN
    if more > 0:
        log.warning("and for %d more reasons; all rejected rows are listed in a file beside the output", more)


def report(found: Examples, config: RunConfig) -> None:
    """Say what became of the rows. Raises ``UsageError`` where not one example is left to train on."""
    data, ledger = config.data, found.ledger
    rest = (
        f", {found.dropped_tokens} tokens at the end of the text fill no block and are left out"
        if found.dropped_tokens
        else ""
    )
    log.info(
        "%d rows in, %d rejected, %d examples to train on%s%s",
        ledger.rows_in, ledger.num_rejected, len(found.train), f", {len(found.eval)} to evaluate on" if found.evals else "", rest,
    )  # fmt: skip
    warn_of_rows(found, config)
    if not len(found.train) and data.dataset:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in ledger.rejected.most_common(3))
        raise UsageError(
            "no example to train on is left",
            where=", ".join(data.dataset),
            mend=f"Rejected: {reasons}."
            if reasons
            else f"The text fills no block of cutoff_len {data.cutoff_len}; lower it.",
        )
    ledger.check()
