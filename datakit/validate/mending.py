"""The rows of a batch that --fix makes good, mended as often as it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from datakit.validate.batch import Batch
from datakit.validate.faults import Fault
from datakit.validate.find import Finder
from datakit.validate.mend import SPELLED_ANEW, mended
from registry.rows import Row

ROUNDS = 8  # a mend may bring another fault to light; no chain of them is longer


@dataclass(frozen=True, slots=True)
class Mending:
    """Which faults may be mended: those of the structure, and texts that were decoded wrongly."""

    structure: bool = False
    texts: bool = False

    @property
    def any(self) -> bool:
        """Whether any fault may be."""
        return self.structure or self.texts

    def takes(self, fault: Fault) -> bool:
        """Whether this fault is to be mended."""
        return fault.fixable and (self.texts if fault.code == "CH004" else self.structure)


@dataclass(frozen=True, slots=True)
class Mended:
    """A row spelled anew, the faults ``done`` away with, and those that are ``left``."""

    data: dict[str, Any]
    done: tuple[Fault, ...]
    left: tuple[Fault, ...]


def mend_batch(batch: Batch, mending: Mending, finder: Finder) -> dict[int, Mended]:
    """The rows that are good when mended, by index. A row that keeps an error is none of them, and stays as it came."""
    work: dict[int, Mended] = {}
    for index, faults in batch.faults.items():
        row = batch.row(index)
        if isinstance(row, Row) and any(map(mending.takes, faults)):
            work[index] = Mended(dict(row.data), (), tuple(faults))
    going = dict(work)
    for _ in range(ROUNDS):
        tried = {index: _tried(state, mending, finder) for index, state in going.items()}
        going = {index: state for index, state in tried.items() if state is not None}
        if not going:
            break
        found = finder.find_again({index: state.data for index, state in going.items()})
        for index, state in going.items():
            ids = tuple(fault for fault in state.left if fault.code == "RD007")
            still = {fault.pointer for fault in found[index] if fault.code == "CH004"}
            done = tuple(fault for fault in state.done if fault.code != "CH004" or fault.pointer not in still)
            going[index] = replace(state, done=done, left=ids + tuple(found[index]))
        work |= going
    levels = finder.levels
    return {i: row for i, row in work.items() if row.done and not any(levels[f.code] == "error" for f in row.left)}


def _tried(state: Mended, mending: Mending, finder: Finder) -> Mended | None:
    """The row with all that may be mended; None where nothing may, or it changes nothing: ftfy leaves much as it is."""
    wanted = tuple(fault for fault in state.left if mending.takes(fault))
    data = mended(state.data, wanted, finder.judge.layout)
    if data == state.data and not any(fault.code in SPELLED_ANEW for fault in wanted):
        return None
    return replace(state, data=data, done=state.done + wanted)
