"""Every stage with every method on every backend, three steps each: ``python -m tests.trainkit.matrix`` runs all and prints a table."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from tests.trainkit.backends.two import Pair, pair
from tests.trainkit.conftest import QUESTIONS, read_log, write_data, write_model

STEPS = 3
CLOSE = (
    1e-4,
    1e-3,
    1e-3,
)  # between the losses of one process and of two; AdamW's first steps go by the sign of small gradients
STAGES: dict[str, dict[str, Any]] = {
    "pt": {"stage": "pt", "dataset": "pages"},
    "sft": {"stage": "sft", "dataset": "questions"},
    "rm": {"stage": "rm", "dataset": "pairs"},
    "dpo": {"stage": "dpo", "dataset": "pairs"},
    "orpo": {"stage": "dpo", "dataset": "pairs", "pref_loss": "orpo"},
    "kto": {"stage": "kto", "dataset": "judged"},
}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"finetuning_type": "full"},
    "freeze": {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
    "lora": {"finetuning_type": "lora"},
    "oft": {"finetuning_type": "oft", "oft_block_size": 8},
    "llama pro": {"finetuning_type": "freeze", "use_llama_pro": True, "freeze_trainable_layers": 1},
    "llama pro lora": {"finetuning_type": "lora", "use_llama_pro": True, "freeze_trainable_layers": 1},
    "qlora nf4": {"finetuning_type": "lora", "quantization_bit": 4},
    "qlora 8 bits": {"finetuning_type": "lora", "quantization_bit": 8},
    "pissa": {"finetuning_type": "lora", "pissa_init": True},
    "dora": {"finetuning_type": "lora", "use_dora": True},
}


def zero(stage: int) -> dict[str, Any]:
    section: dict[str, Any] = {"stage": stage}
    if stage == 3:
        section["stage3_param_persistence_threshold"] = 0  # the weights of a tiny model are shared too
    return {
        "deepspeed": {"zero_optimization": section, "train_batch_size": "auto", "gradient_clipping": "auto"},
    }


# name: (keys, what wraps the objective, the optimizer around ours)
BACKENDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "single": ({}, "Objective", "AdamW"),
    "ddp": ({}, "DistributedDataParallel", "AdamW"),
    "fsdp2": ({"fsdp": "full_shard auto_wrap"}, "FSDPObjective", "AdamW"),
    "zero-0": (zero(0), "DeepSpeedEngine", "AdamW"),
    "zero-1": (zero(1), "DeepSpeedEngine", "DeepSpeedZeroOptimizer"),
    "zero-2": (zero(2), "DeepSpeedEngine", "DeepSpeedZeroOptimizer"),
    "zero-3": (zero(3), "DeepSpeedEngine", "DeepSpeedZeroOptimizer_Stage3"),
}
JUDGED = {
    "file_name": "judged.jsonl",
    "columns": {"prompt": "instruction", "query": "input", "response": "output", "kto_tag": "good"},
}


@dataclass(frozen=True, order=True)
class Cell:
    """What is run: a stage with a method on a backend."""

    stage: str
    method: str
    backend: str

    def __str__(self) -> str:
        return f"{self.stage} · {self.method} · {self.backend}"

    @property
    def single(self) -> Cell:
        return Cell(self.stage, self.method, "single")

    @property
    def excluded(self) -> str | None:
        """What a run of the cell must be refused with; None where it must run."""
        if self.stage == "kto" and self.method == "pissa":
            return '"pissa_init" changes the base, and stage kto needs it as it was; remove one of the two'
        if self.backend == "zero-3" and self.method == "pissa":
            return '"pissa_init" does not go with ZeRO-3 (deepspeed); use stage 2, or remove "pissa_init"'
        if self.backend == "zero-3" and self.method.startswith("qlora"):
            return '"quantization_bit" does not go with ZeRO-3 (deepspeed); use stage 2, or remove "quantization_bit"'
        return None

    @property
    def lacks(self) -> str | None:
        """The package that the cell needs and is not installed."""
        needed = {"zero": "deepspeed", "qlora": "bitsandbytes"}
        words = (self.backend.partition("-")[0], self.method.partition(" ")[0])
        return next((p for w, p in needed.items() if w in words and importlib.util.find_spec(p) is None), None)


ALL = [Cell(stage, method, backend) for backend in BACKENDS for method in METHODS for stage in STAGES]


@dataclass(frozen=True)
class Found:
    """What came of a cell in one process: the losses as logged, what wrapped model and optimizer, whether the saved model
    could be loaded; or the words it was refused with. ``seconds`` of the run alone."""

    losses: tuple[float, ...] = ()
    module: str = ""
    optimizer: str = ""
    loads: bool = False
    refused: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where the data and the model lie, and the outputs go."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Place:
        """A model and a dataset for each stage, written into ``folder``."""
        data = write_data(folder / "data")
        rows = [{**row, "good": number % 3 != 1} for number, row in enumerate(QUESTIONS)]
        (data / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        known = json.loads((data / "dataset_info.json").read_text("utf-8"))
        (data / "dataset_info.json").write_text(json.dumps(known | {"judged": JUDGED}), "utf-8")
        write_model(folder / "tiny", data)
        return cls(folder)

    def keys(self, cell: Cell) -> dict[str, Any]:
        """The run's config: as many rows a step with one process as with two."""
        return {
            "model_name_or_path": str(self.folder / "tiny"),
            "do_train": True,
            "template": "qwen3_nothink",
            "dataset_dir": str(self.folder / "data"),
            "cutoff_len": 64,
            "output_dir": str(
                self.folder / "out" / "-".join((cell.stage, cell.method, cell.backend)).replace(" ", "-")
            ),
            "per_device_train_batch_size": 4 if cell.backend == "single" else 2,
            "max_steps": STEPS,
            "learning_rate": 0.001,
            "logging_steps": 1,
            "save_strategy": "no",
            "plot_loss": False,
            "use_cpu": True,
            **STAGES[cell.stage],
            **METHODS[cell.method],
            **BACKENDS[cell.backend][0],
        }


GROUPS: list[Any] = []  # of a process: DeepSpeed keeps the first one it meets


@contextmanager
def watched() -> Iterator[list[Any]]:
    """The backends that runs within the block open. Of several processes the group stays open for the next run."""
    from trainkit import backends
    from trainkit.backends.process_group import Group

    class Kept(Group):
        def close(self) -> None:
            self.barrier()

    def kept(config: Any) -> Group:
        if not GROUPS:
            with mock.patch("trainkit.backends.process_group.Group", Kept):
                GROUPS.append(backends.open_group(config))
        return GROUPS[0]

    opened: list[Any] = []

    def watching(*arguments: Any) -> Any:
        opened.append(backends.open_backend(*arguments))
        return opened[-1]

    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    with (
        mock.patch("trainkit.run.open_backend", watching),
        mock.patch("trainkit.run.open_group", kept if several else backends.open_group),
    ):
        yield opened


def run_cell(keys: dict[str, Any]) -> Found:
    """One run by ``trainkit.run.run``, in this process or with its partner's help."""
    from registry.errors import TunekitError
    from trainkit.config import load_config
    from trainkit.run import run

    start = time.perf_counter()
    try:
        with watched() as opened:
            config = load_config(keys)
            folder = run(config, quiet=True).folder
    except TunekitError as error:
        return Found(refused=str(error), seconds=time.perf_counter() - start)
    seconds = time.perf_counter() - start
    (backend,) = opened
    if backend.rank:
        return Found(seconds=seconds)
    losses = tuple(line["loss"] for line in read_log(folder) if "loss" in line)
    module, optimizer = type(backend.module).__name__, type(backend.optimizer).__name__
    return Found(losses, module, optimizer, loads_again(config, folder), seconds=seconds)


def loads_again(config: Any, folder: Path) -> bool:
    """Whether the saved model (the base with the saved adapter) says something; of a reward model, a reward too."""
    from dataclasses import replace

    import torch

    from trainkit.model import load_for_inference
    from trainkit.objective import ValueHead, load_value_head

    adapter = (folder / "adapter_config.json").is_file()
    named = {"adapter_name_or_path": (str(folder),)} if adapter else {"model_name_or_path": str(folder)}
    model: Any = load_for_inference(replace(config.model, **named), torch.float32, device=torch.device("cpu"))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[5, 60, 7, 80]])).logits
    head = ValueHead(model.config.hidden_size)
    return bool(logits.isfinite().all()) and load_value_head(folder, head) is (config.stage == "rm")


def run_cells(cells: Iterable[Cell], place: Place, two: Pair) -> Iterator[tuple[Cell, list[Found]]]:
    """Each cell with what every one of its processes found; a cell that fails in another way than by being refused raises
    ``AssertionError`` with its traceback."""
    for cell in cells:
        keys = place.keys(cell)
        yield cell, [run_cell(keys)] if cell.backend == "single" else two(run_cell, keys)


def faults(cell: Cell, found: list[Found], alone: tuple[float, ...]) -> list[str]:
    """What is not as it must be with a cell; ``alone`` are the losses of the same cell in one process, where known."""
    if cell.excluded:
        told = [one.refused or f"ran: {one}" for one in found]
        return [f"{cell}: refused with {t!r}" for t in told if cell.excluded not in t]
    if refused := [one.refused for one in found if one.refused]:
        return [f"{cell}: refused with {refused[0]!r}"]
    leader, (_, module, optimizer) = found[0], BACKENDS[cell.backend]
    wrong = []
    if len(leader.losses) != STEPS or not all(0 < loss < 20 for loss in leader.losses):
        wrong.append(f"losses {leader.losses}")
    elif any(abs(a - b) > close for a, b, close in zip(leader.losses, alone, CLOSE, strict=False)):
        wrong.append(f"losses {leader.losses}, in one process {alone}")
    if (leader.module, leader.optimizer) != (module, optimizer):
        wrong.append(f"ran under {leader.module} with {leader.optimizer}")
    if not leader.loads:
        wrong.append("the saved model does not load")
    return [f"{cell}: {fault}" for fault in wrong]


def main() -> None:
    """Run the whole matrix (or the cells whose names hold the given words) and print what came of it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("words", nargs="*", help="only cells that have each of these parts: sft lora fsdp2")
    words = set(parser.parse_args().words)
    cells = [c for c in ALL if words <= {c.stage, c.method.replace(" ", "-"), c.backend} and not c.lacks]
    marks: dict[Cell, str] = {}
    reasons: Counter[str] = Counter()
    single: dict[Cell, tuple[float, ...]] = {}
    wrong: list[str] = []
    furthest, start = 0.0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, pair() as two:
        place = Place.made(Path(folder))
        for cell in cells:
            try:
                ((_, found),) = run_cells([cell], place, two)
            except Exception as error:  # noqa: BLE001  # the table is to show all that fails
                marks[cell] = "FAILED"
                wrong.append(f"{cell}: {str(error).strip().splitlines()[-1]}\n{error}")
                print(f"{cell}: FAILED: {str(error).strip().splitlines()[-1]}", flush=True)
                continue
            new = faults(cell, found, single.get(cell.single, ()))
            wrong += new
            if losses := found[0].losses:
                single.setdefault(cell, losses)
                furthest = max(furthest, abs(losses[0] - single.get(cell.single, losses)[0]))
            marks[cell] = (
                "FAILED" if new else "refused" if found[0].refused else f"{max(f.seconds for f in found):.1f} s"
            )
            reasons.update([cell.excluded] if marks[cell] == "refused" and cell.excluded else [])
            print(f"{cell}: {new[0] if new else marks[cell]}", flush=True)
    print_table(marks)
    ran = sum(mark.endswith(" s") for mark in marks.values())
    print(
        f"{ran} cells ran, {sum(reasons.values())} were refused by name, {len(marks) - ran - sum(reasons.values())} failed"
    )
    print(f"first losses differ by {furthest:.1e} at most; {time.perf_counter() - start:.0f} s in all")
    for reason, number in reasons.items():
        print(f"refused, {number} cells: {reason}")
    for fault in wrong:
        print(fault)
    raise SystemExit(bool(wrong))


def print_table(marks: dict[Cell, str]) -> None:
    """One row a stage and method, one column a backend."""
    columns = [b for b in BACKENDS if any(cell.backend == b for cell in marks)]
    print(f"\n{'':24}" + "".join(f"{name:>9}" for name in columns))
    for stage in STAGES:
        for method in METHODS:
            row = [marks.get(Cell(stage, method, backend), "") for backend in columns]
            if any(row):
                print(f"{stage + ' · ' + method:24}" + "".join(f"{mark:>9}" for mark in row))


if __name__ == "__main__":
    main()
