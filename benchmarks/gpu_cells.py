"""Which runs ``benchmarks/gpu.py`` makes: shapes, methods, lengths and the sides of each, and what can be said to fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.models import parameters_of


@dataclass(frozen=True)
class Rung:
    """One side. ``library`` is whose loop it is; ``packed`` rows or an example a row; ``compiled`` layers; ``fused`` head
    and loss, or all logits; ``recompute`` activations in the backward pass."""

    title: str
    library: str
    packed: bool
    compiled: bool
    fused: bool
    recompute: bool


# The ladder, each rung with one thing more than the one before; then the others, as they are and at their best.
RUNGS = {
    "eager": Rung("trainkit: an example a row, all logits, recomputing", "trainkit", False, False, False, True),
    "packed": Rung("+ packed", "trainkit", True, False, False, True),
    "compiled": Rung("+ compiled", "trainkit", True, True, False, True),
    "fused": Rung("+ fused loss", "trainkit", True, True, True, True),
    "kept": Rung("+ nothing recomputed", "trainkit", True, True, True, False),
    "trainer": Rung("Trainer as LLaMA-Factory", "trainer", False, False, False, True),
    "trainer-packed": Rung("Trainer, packed, nothing recomputed", "trainer", True, False, False, False),
    "trl": Rung("TRL, packed, nothing recomputed", "trl", True, False, True, False),
}
TOP = ("kept", "trainer", "trainer-packed", "trl")
LADDER_AT = 4096
PLACES = 16_384  # tokens of a micro-batch, padding among them
STEP = 32_768  # tokens of text in a step, about


@dataclass(frozen=True)
class Cell:
    """One run: ``rows`` of ``length`` tokens in a micro-batch. ``pure`` keeps all weights in bfloat16: 7B does not fit
    otherwise."""

    shape: str
    method: str
    length: int
    rung: str
    rows: int
    steps: int
    pure: bool
    attention: str
    device: str

    @property
    def name(self) -> str:
        return f"{self.shape}-{self.method}-{self.length}-{self.rung}"

    def smaller(self) -> Cell | None:
        """The same with half the rows, where there is more than one."""
        return replace(self, rows=self.rows // 2) if self.rows > 1 else None


def cells(
    only: str, *, steps: int, attention: str, device: str = "cuda", shapes: tuple[str, ...] = ("0.5B", "1.5B", "7B"),
    lengths: tuple[int, ...] = (2048, 4096, 8192), ladder_at: int = LADDER_AT, places: int = PLACES,
) -> Iterator[Cell]:  # fmt: skip
    """All runs whose names hold each word of one of the groups in ``only`` ("1.5B full kept,7B lora": two groups)."""
    groups = [group.split() for group in only.split(",")]
    for shape in shapes:
        for method in ("full", "lora"):
            for length in lengths:
                for rung in RUNGS if length == ladder_at else TOP:
                    pure = method == "full" and parameters_of(shape) > 4e9
                    rows = max(1, places // length)
                    cell = Cell(shape, method, length, rung, rows, steps, pure, attention, device)
                    parts = cell.name.split("-", 3)
                    if any(all(word in parts for word in group) for group in groups):
                        yield cell


def held_bytes(cell: Cell) -> int:
    """What weights, gradients and AdamW's state take; a LoRA's own are too few to count."""
    count = parameters_of(cell.shape)
    if cell.method == "lora":
        return 2 * count
    return count * (2 + 2 + 4 if cell.pure else 4 + 4 + 8)


def why_not(cell: Cell, memory: int, installed: dict[str, bool]) -> str | None:
    """Why a run cannot be made on a device with so many bytes; None where it can be tried."""
    if not installed.get(RUNGS[cell.rung].library, True):
        return f"{RUNGS[cell.rung].library} is not installed"
    held = held_bytes(cell)
    if held > memory:
        return f"weights, gradients and optimizer take {held / 2**30:.0f} GiB, the device has {memory / 2**30:.0f}"
    return None


def model_keys(cell: Cell) -> dict[str, Any]:
    """The keys of trainkit's config for this run."""
    return {
        "model_name_or_path": f"{cell.shape} with random weights", "stage": "sft", "finetuning_type": cell.method,
        "cutoff_len": cell.length, "learning_rate": 1e-5, "bf16": not cell.pure, "pure_bf16": cell.pure,
        "torch_compile": RUNGS[cell.rung].compiled and cell.device == "cuda", "use_cpu": cell.device == "cpu",
    }  # fmt: skip
