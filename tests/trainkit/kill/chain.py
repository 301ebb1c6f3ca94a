"""A run that is killed at random moments and started again until it ends, and the run that nobody disturbed beside it."""

from __future__ import annotations

import json
import multiprocessing
import random
import runpy
import shutil
import signal
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from trainkit.checkpoint import list_checkpoints, step_of

KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"finetuning_type": "lora", "lora_dropout": 0.1, "learning_rate": 0.01},
    "packed": {"packing": True, "cutoff_len": 96, "gradient_accumulation_steps": 2},
    "streaming": {"streaming": True, "buffer_size": 8},
    "dpo": {"stage": "dpo", "dataset": "pairs", "finetuning_type": "lora", "lora_dropout": 0.1, "learning_rate": 0.01},
}
STEPS = 12
# What of a log line must be the same whenever it was written: all but times.
CURVE = ("current_steps", "loss", "grad_norm", "lr", "reward", "accuracy", "epoch", "total_tokens")


@dataclass
class Chain:
    """What came of one chain: how each part of it ended, and what differs from the undisturbed run (nothing, one hopes)."""

    kind: str
    seed: int
    deaths: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def keys_of(kind: str, model: Path, data: Path, out: Path) -> dict[str, Any]:
    """The config of one kind's run, which saves every second step and keeps two checkpoints."""
    return {
        "model_name_or_path": str(model), "stage": "sft", "do_train": True, "finetuning_type": "full",
        "template": "qwen3_nothink", "dataset": "questions", "dataset_dir": str(data), "cutoff_len": 64,
        "output_dir": str(out), "per_device_train_batch_size": 2, "max_steps": STEPS, "learning_rate": 0.001,
        "logging_steps": 1, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 2, "use_cpu": True, "plot_loss": False,
        **KINDS[kind],
    }  # fmt: skip


def part(config: Path, folder: Path, *, die_at: int = 0, after_s: float | None = None) -> tuple[int, str]:
    """The command once, in a process of its own: its exit code (-9: killed) and where it died, or what it said."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.trainkit.preload"])
    folder.mkdir(parents=True)
    given = {"arguments": ["run", str(config)], "die_at": die_at, "folder": str(folder)}
    script = str(Path(__file__).with_name("command.py"))
    process = context.Process(target=runpy.run_path, args=(script, {"GIVEN": given}), daemon=True)
    process.start()
    process.join(300 if after_s is None else after_s)
    if process.exitcode is None:
        assert after_s is not None, f"the command does not end: {(folder / 'stderr').read_text()}"
        process.kill()
        process.join()
    died = folder / "died"
    if process.exitcode == -signal.SIGKILL:
        return -signal.SIGKILL, died.read_text() if died.exists() else f"after {after_s:.2f} s"
    return int(process.exitcode or 0), (folder / "stderr").read_text()


def undisturbed(kind: str, model: Path, data: Path, root: Path) -> tuple[Path, int, float]:
    """A run from beginning to end: its output, the number of its events and the seconds it took."""
    root.mkdir(parents=True)
    config = root / "run.yaml"
    config.write_text(yaml.safe_dump(keys_of(kind, model, data, root / "out")), "utf-8")
    began = time.monotonic()
    code, said = part(config, root / "process")
    assert code == 0, said
    return root / "out", int((root / "process" / "events").read_text()), time.monotonic() - began


def chain(
    kind: str, model: Path, data: Path, root: Path, whole: tuple[Path, int, float], *, seed: int, kills: int
) -> Chain:
    """Kill a run ``kills`` times, each time at a moment of its own, then let it end; compare it with the ``whole`` one.

    Two kills of three come at a random event of what is left of the run, so that saves are met in all their parts; the
    third at a random time. A run that is through before all kills are spent is compared, and another one begun.
    """
    root.mkdir(parents=True)
    config, out, found, rng = root / "run.yaml", root / "out", Chain(kind, seed), random.Random(seed)
    config.write_text(yaml.safe_dump(keys_of(kind, model, data, out)), "utf-8")
    for number in count():
        moment: dict[str, Any] = {}
        if len(found.deaths) < kills:
            events = max(20, whole[1] * (STEPS - max(map(step_of, list_checkpoints(out)), default=0)) // STEPS)
            by_time = len(found.deaths) % 3 == 2
            moment = {"after_s": rng.uniform(0.05, 0.6) * whole[2]} if by_time else {"die_at": rng.randint(1, events)}
        code, said = part(config, root / f"part-{number}", **moment)
        if code == -signal.SIGKILL:
            found.deaths.append(said)
            continue
        found.differences = [f"exit code {code}: {said}"] if code else differences(whole[0], out)
        if found.differences or len(found.deaths) >= kills:
            break
        shutil.rmtree(out)
    return found


def differences(one: Path, other: Path) -> list[str]:
    """What two finished runs do not share: files, weights, optimizer, random state, log, losses. Bit for bit."""
    found = []
    first, second = (sorted(str(p.relative_to(root)) for p in root.rglob("*")) for root in (one, other))
    if first != second:
        found.append(f"files: {sorted({*first} ^ {*second})}")
    for name in first:
        if (
            name.endswith(".safetensors")
            and name in second
            and (one / name).read_bytes() != (other / name).read_bytes()
        ):
            found.append(f"content of {name}")
    logs = [
        [{k: line[k] for k in CURVE if k in line} for line in map(json.loads, (root / "trainer_log.jsonl").open())]
        for root in (one, other)
    ]
    if logs[0] != logs[1]:
        found.append(f"trainer_log.jsonl: {logs[0]} and {logs[1]}")
    losses = [json.loads((root / "train_results.json").read_text())["train_loss"] for root in (one, other)]
    if losses[0] != losses[1]:
        found.append(f"train_loss: {losses[0]} and {losses[1]}")
    return found
