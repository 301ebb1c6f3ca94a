"""Every stage, method and backend runs, or is refused by name: a covering part of the matrix (the whole: ``python -m tests.trainkit.matrix``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.trainkit.backends.two import Pair, pair
from tests.trainkit.matrix import ALL, Cell, Found, Place, faults, run_cell

ADAPTED_OR_NOT = ("full", "lora")


def is_covering(cell: Cell) -> bool:
    """Every stage with every method in one process; in two, every stage with all weights and with an adapter, and every
    method in sft. Of ZeRO 0 and 1, which share their ways with 2, a corner; of ZeRO-3, the slowest, adapters in two stages."""
    if cell.backend == "single":
        return True
    if cell.backend in ("zero-0", "zero-1"):
        return cell.stage in ("sft", "dpo") and cell.method in ADAPTED_OR_NOT
    if cell.backend == "zero-3" and cell.method == "lora":
        return cell.stage in ("sft", "dpo")
    return cell.method in ADAPTED_OR_NOT or cell.stage == "sft"


COVERING = [cell for cell in ALL if is_covering(cell)]


@pytest.fixture(scope="module")
def two() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place.made(tmp_path_factory.mktemp("matrix"))


@pytest.fixture(scope="module")
def alone(place: Place) -> Any:
    """``alone(cell)``: what the cell finds in one process; run once."""
    known: dict[Cell, Found] = {}

    def found(cell: Cell) -> Found:
        if cell not in known:
            known[cell] = run_cell(place.keys(cell))
        return known[cell]

    return found


@pytest.mark.parametrize("cell", COVERING, ids=str)
def test_a_cell_runs_as_in_one_process_or_is_refused_by_name(cell: Cell, alone: Any, two: Pair, place: Place) -> None:
    if cell.lacks:
        pytest.skip(f"needs {cell.lacks} (pip install {cell.lacks})")
    single = alone(cell.single)
    found = [single] if cell.backend == "single" else two(run_cell, place.keys(cell))
    assert faults(cell, found, single.losses) == []


def test_what_is_excluded_is_little_and_has_a_reason() -> None:
    excluded = [cell for cell in ALL if cell.excluded]
    assert (len(ALL), len(excluded)) == (420, 24)


def test_a_cell_that_goes_wrong_is_told(place: Place) -> None:
    cell = Cell("sft", "full", "ddp")
    well = Found((5.0, 4.0, 3.0), "DistributedDataParallel", "AdamW", loads=True)
    assert faults(cell, [well, Found()], (5.00005, 4.0005, 3.0005)) == []
    assert "losses (5.0, 4.0, 3.0), in one process (5.001, 4.0, 3.0)" in faults(cell, [well], (5.001, 4.0, 3.0))[0]
    assert "in one process (5.0, 4.0, 3.01)" in faults(cell, [well], (5.0, 4.0, 3.01))[0]
    assert (
        "losses (nan,"
        in faults(cell, [Found((float("nan"), 4.0, 3.0), well.module, "AdamW", loads=True)], well.losses)[0]
    )
    assert "losses (5.0,)" in faults(cell, [Found((5.0,), well.module, "AdamW", loads=True)], well.losses)[0]
    assert "ran under Objective" in faults(cell, [Found(well.losses, "Objective", "AdamW", loads=True)], well.losses)[0]
    assert "does not load" in faults(cell, [Found(well.losses, well.module, "AdamW")], well.losses)[0]
    assert "refused with 'no'" in faults(cell, [Found(refused="no")], well.losses)[0]
    assert "ran: Found(losses=(5.0," in faults(Cell("kto", "pissa", "ddp"), [well], ())[0]
