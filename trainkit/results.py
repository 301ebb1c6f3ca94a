"""What stands in the output folder beside the weights: results, state, loss curve, resolved config, model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from registry.atomic import atomic_file, write_json
from registry.manifest import tool_version
from trainkit.config import RunConfig
from trainkit.metrics import RunLog


def write_results(folder: Path, split: str, numbers: Mapping[str, Any]) -> None:
    """``<split>_results.json``, and the same numbers merged into ``all_results.json``, as the Trainer lays them out."""
    ordered = dict(sorted(numbers.items()))
    write_json(folder / f"{split}_results.json", ordered)
    path = folder / "all_results.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, dict(sorted({**known, **ordered}.items())))


def trainer_state(step: int, total_steps: int, epoch: float, run_log: RunLog) -> dict[str, Any]:
    """Hugging Face's ``trainer_state.json``, plus the time that the run has taken so far."""
    return {
        "epoch": epoch,
        "global_step": step,
        "max_steps": total_steps,
        "num_input_tokens_seen": run_log.tokens,
        "train_runtime": round(run_log.seconds, 3),
        "loss_sum": run_log.loss_sum,
        "first_loss": run_log.first_loss,
        "unlogged": list(run_log.unlogged),
        "is_local_process_zero": True,
        "is_world_process_zero": True,
        "log_history": list(run_log.history),
    }


def plot_curves(folder: Path, history: Sequence[Mapping[str, Any]]) -> list[Path]:
    """``training_<key>.png`` for every curve that was logged: loss, and eval_loss and rewards where there are any."""
    written = []
    for key in ("loss", "eval_loss", "rewards/accuracies"):
        points = [(h["step"], h[key]) for h in history if h.get(key) is not None]
        if points:
            path = folder / f"training_{key.replace('/', '_')}.png"
            _plot(path, key, points)
            written.append(path)
    return written


def _plot(path: Path, key: str, points: Sequence[tuple[int, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color="#9db8d9", linewidth=1, marker="." if len(points) < 3 else None, label="as logged")
    if len(points) >= 10:
        axes.plot(steps, smoothed(values), color="#1f5fa8", linewidth=2, label="smoothed")
        axes.legend(frameon=False)
    axes.set(xlabel="optimizer step", ylabel=key, title=f"training {key}")
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_file(path) as handle:
        figure.savefig(handle, format="png", dpi=120)


def smoothed(values: Sequence[float]) -> list[float]:
    """An exponential moving average that spans about a tenth of the points, each point weighing in from the start."""
    keep = 1 - 2 / (len(values) / 10 + 1) if len(values) > 10 else 0.5
    average, out = values[0], []
    for value in values:
        average = keep * average + (1 - keep) * value
        out.append(average)
    return out


def write_config(folder: Path, config: RunConfig) -> None:
    """``training_args.yaml``: every key with the value that held."""
    with atomic_file(folder / "training_args.yaml") as handle:
        handle.write(yaml.safe_dump(config.flat(), allow_unicode=True, sort_keys=True).encode())


def write_card(
    folder: Path, config: RunConfig, numbers: Mapping[str, Any], rows_in: int, num_train: int, num_eval: int
) -> None:
    """``README.md``: a model card that says what was trained, on what, and what came out."""
    method = "LoRA adapter" if config.method.finetuning_type == "lora" else "full fine-tuning"
    base = config.model.model_name_or_path
    front: dict[str, Any] = {
        "base_model": base,
        "library_name": "peft" if method.startswith("LoRA") else "transformers",
    }
    front |= {
        "tags": ["tunekit", config.stage, config.method.finetuning_type],
        "datasets": list(config.data.dataset or ()),
    }
    loop, optim = config.loop, config.optim
    rows = [
        ("stage", config.stage),
        ("method", config.method.finetuning_type),
        ("chat template", config.data.template or "the tokenizer's own"),
        ("cutoff length", f"{config.data.cutoff_len} tokens"),
        ("rows", f"{rows_in} in"),
        ("examples", f"{num_train} trained on" + (f", {num_eval} held out" if num_eval else "")),
        ("batch", f"{loop.per_device_train_batch_size} × {loop.gradient_accumulation_steps}"),
        ("learning rate", f"{optim.learning_rate:g}, {optim.lr_scheduler_type}"),
        ("seed", loop.seed),
        *((name, value) for name, value in numbers.items() if name in ("epoch", "train_loss", "eval_loss")),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    text = (
        f"---\n{yaml.safe_dump(front, allow_unicode=True)}---\n\n# {folder.name}\n\n"
        f"{method[0].upper() + method[1:]} of `{base}` on {', '.join(config.data.dataset or ())}, made with tunekit {tool_version()}.\n\n"
        f"| | |\n|---|---|\n{table}\n\nAll settings: `training_args.yaml`. Loss by step: `trainer_log.jsonl`, `training_loss.png`.\n"
    )
    with atomic_file(folder / "README.md") as handle:
        handle.write(text.encode())
