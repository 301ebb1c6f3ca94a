"""A DeepSpeed JSON read as ours: "auto" filled in from the run's config, and what contradicts it named before anything loads."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AUTO = "auto"
STAGES = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What "auto" stands for: sizes are rows a process (``micro``), micro-batches a step, and processes."""

    micro: int
    accumulation: int
    world_size: int | None  # None: not known yet
    learning_rate: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    max_grad_norm: float
    bf16: bool


def read_deepspeed(value: str | Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, list[str]]:
    """The JSON that ``deepspeed`` names or holds (None where it is not set), and what is wrong with it as a file."""
    if not value:
        return None, []
    if isinstance(value, Mapping):
        return copy.deepcopy(dict(value)), []
    try:
        found = json.loads(value if value.lstrip().startswith("{") else Path(value).read_text(encoding="utf-8"))
    except OSError as error:
        return None, [f'"deepspeed": {value}: {error.strerror or error}']
    except ValueError as error:
        return None, [f'"deepspeed": {value} is no JSON: {error}']
    return (found, []) if isinstance(found, dict) else (None, [f'"deepspeed": {value} must hold an object'])


def stage_of(config: Mapping[str, Any]) -> int:
    """The ZeRO stage; 0 where none is named."""
    zero = config.get("zero_optimization")
    return int(zero.get("stage", 0)) if isinstance(zero, Mapping) and str(zero.get("stage", 0)).isdecimal() else 0


def named_optimizer(config: Mapping[str, Any]) -> str | None:
    """The optimizer that DeepSpeed itself is to build; None where the run's own is used."""
    section = config.get("optimizer")
    return str(section.get("type")) if isinstance(section, Mapping) and section.get("type") else None


def fill_in(config: Mapping[str, Any], numbers: Numbers) -> tuple[dict[str, Any], list[str], list[str]]:
    """The config with every "auto" but those of the model's width replaced; all faults; what has no effect here.

    A number that is written down must be the run's own: two truths about a batch size are an error, not a choice.
    """
    filled = copy.deepcopy(dict(config))
    faults: list[str] = []
    notes: list[str] = []
    _sizes(filled, numbers, faults)
    _match(filled, "gradient_clipping", numbers.max_grad_norm, "max_grad_norm", faults)
    _match(filled, "optimizer.params.lr", numbers.learning_rate, "learning_rate", faults)
    _match(filled, "optimizer.params.betas", list(numbers.betas), "adam_beta1 and adam_beta2", faults)
    _match(filled, "optimizer.params.eps", numbers.eps, "adam_epsilon", faults)
    _match(filled, "optimizer.params.weight_decay", numbers.weight_decay, "weight_decay", faults)
    _match(filled, "bf16.enabled", numbers.bf16, "bf16", faults)
    _match(filled, "fp16.enabled", False, "fp16 (which is not built; use bf16)", faults)
    _refused(filled, faults, notes)
    return filled, faults, notes


def _sizes(config: dict[str, Any], numbers: Numbers, faults: list[str]) -> None:
    _match(config, "train_micro_batch_size_per_gpu", numbers.micro, "per_device_train_batch_size", faults)
    _match(config, "gradient_accumulation_steps", numbers.accumulation, "gradient_accumulation_steps", faults)
    total, world = config.get("train_batch_size", AUTO), numbers.world_size
    product = numbers.micro * numbers.accumulation * (world or 1)
    if total == AUTO:
        config.pop("train_batch_size", None)
    elif not isinstance(total, int) or (total != product if world else total % product):
        faults.append(
            f'"train_batch_size" is {total!r}, and per_device_train_batch_size {numbers.micro} × gradient_accumulation_steps '
            f"{numbers.accumulation} × {world or 'the number of'} processes is {product if world else f'a multiple of {product}'}"
        )
    if world:
        config["train_batch_size"] = product
    config["train_micro_batch_size_per_gpu"] = numbers.micro
    config["gradient_accumulation_steps"] = numbers.accumulation


def _match(config: dict[str, Any], path: str, ours: Any, key: str, faults: list[str]) -> None:
    """Put ``ours`` where the file says "auto"; a fault where it says another thing."""
    *folders, last = path.split(".")
    node: Any = config
    for name in folders:
        node = node.get(name) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        return
    said = node[last]
    if said == AUTO:
        node[last] = ours
    elif said != ours:
        faults.append(f'"{path}" is {_shown(said)}, and {key} is {_shown(ours)}; write "auto", or the same')


def _shown(value: Any) -> str:
    return json.dumps(value)


def _refused(config: dict[str, Any], faults: list[str], notes: list[str]) -> None:
    zero = config.get("zero_optimization", {})
    if not isinstance(zero, dict) or zero.get("stage", 0) not in STAGES:
        faults.append('"zero_optimization.stage" must be 0, 1, 2 or 3')
        config["zero_optimization"] = {}
    if config.pop("scheduler", None):
        faults.append(
            '"scheduler": lr_scheduler_type and warmup_steps of the run\'s config set the learning rate; remove it'
        )
    if _on(config.get("amp")):
        faults.append('"amp": apex is not built in; remove it')
    parallel = config.pop("tensor_parallel", None)
    if isinstance(parallel, dict) and int(parallel.get("autotp_size", 0)) > 1:
        notes.append(
            "tensor_parallel.autotp_size has no effect: layers are not divided, every process takes its own rows, and ZeRO "
            "shares what it says"
        )
    if _on(config.pop("fp8", None)):
        notes.append("DeepSpeed reads no fp8 section, and neither does this: bf16 decides the precision")
    if config.get("zero_force_ds_cpu_optimizer", True) and not named_optimizer(config):
        config["zero_force_ds_cpu_optimizer"] = False  # torch's fused AdamW does on the CPU what DeepSpeed's would
    config["zero_allow_untested_optimizer"] = True  # which optimizers may be cut into shares is ours to say
    config.setdefault("steps_per_print", 10**9)
    config.setdefault("wall_clock_breakdown", False)


def _on(section: Any) -> bool:
    return isinstance(section, dict) and bool(section.get("enabled"))


def fill_widths(config: Mapping[str, Any], hidden_size: int) -> dict[str, Any]:
    """The config with the "auto" of ZeRO's buckets replaced by what suits a model of this width, as transformers does."""
    filled = copy.deepcopy(dict(config))
    zero = filled.get("zero_optimization") or {}
    suits = {
        "reduce_bucket_size": hidden_size * hidden_size,
        "stage3_prefetch_bucket_size": int(0.9 * hidden_size * hidden_size),
        "stage3_param_persistence_threshold": 10 * hidden_size,
    }
    for key, number in suits.items():
        if zero.get(key) == AUTO:
            zero[key] = number
    return filled


def left_auto(config: Any, path: str = "") -> list[str]:
    """The keys that still say "auto": nobody knows what they stand for."""
    if isinstance(config, Mapping):
        return [p for key, value in config.items() for p in left_auto(value, f"{path}.{key}" if path else str(key))]
    return [path] if config == AUTO else []
