"""The forecast of a planned run as JSON values: memory, time, disk, and what would make it fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from registry.tokenizer import Tokenizer
from trainkit.config import RunConfig
from trainkit.data.account import Examples

MOST_ROWS = 8192  # tokens multiplied at once to learn a device's rate


def forecast(
    config: RunConfig, examples: Examples, tokenizer: Tokenizer, folder: Path, steps: Mapping[str, Any]
) -> dict[str, Any]:
    """``memory``, ``time`` and ``disk`` of a run whose steps are ``steps`` (``trainkit.plan_steps``), on this machine.

    Where an architecture cannot be built from its config, ``memory`` and ``time`` hold ``why_not`` alone.
    """
    from trainkit.forecast.activations import Model
    from trainkit.forecast.advice import needs_recompute, ways_out
    from trainkit.forecast.batches import largest_batch
    from trainkit.forecast.build import CannotFollow
    from trainkit.forecast.disk import forecast_disk
    from trainkit.forecast.memory import forecast_memory, state_bytes

    device, limit = this_device(use_cpu=config.loop.use_cpu)
    processes = num_processes(use_cpu=config.loop.use_cpu)
    if device == "cpu" and limit is not None:
        limit //= processes
    make = largest_batch(config, examples, tokenizer, device=device)
    if make is None:
        return {}
    batch = make(config.loop.per_device_train_batch_size, config.data.cutoff_len)
    try:
        model = Model(config, str(folder))
        recompute = chosen_recompute(config)
        if recompute is None:
            recompute = needs_recompute(config, model, batch, device=device, processes=processes, limit=limit)
        memory = forecast_memory(
            config, model, batch, device=device, processes=processes, recompute=recompute, limit=limit
        )
        ways = [] if memory.fits else ways_out(config, model, make, memory)
        held = model.held(config, device)
    except CannotFollow as error:
        unknown = {"why_not": f"not known, because {error}"}
        return {"memory": unknown, "time": unknown, "disk": None}
    saved = held.trained_weights[0] if config.method.finetuning_type in ("lora", "oft") else held.weights[0]
    disk = forecast_disk(
        config.loop, config.output_dir, model=saved, optimizer=int(state_bytes(config.optim, held)),
        steps_per_epoch=steps["per_epoch"], total_steps=steps["total"],
    )  # fmt: skip
    told = {"ways_out": [{"change": way.change, "saves": way.saves, "fits": way.fits} for way in ways]}
    return {
        "memory": memory.as_json() | told,
        "time": time_of(config, examples, held.work, steps, width=model.width, device=device, recompute=recompute),
        "disk": disk.as_json(),
    }


def time_of(
    config: RunConfig,
    examples: Examples,
    work: Any,
    steps: Mapping[str, Any],
    *,
    width: int,
    device: str,
    recompute: str,
) -> dict[str, Any]:
    """The estimate of the run's time, from the mean step."""
    from trainkit.forecast.flops import flops_per_step
    from trainkit.forecast.time import forecast_time

    view = examples.train
    lengths = view.lengths.astype("float64")
    share = view.trained.sum() / max(lengths.sum() * (2 if config.stage in ("dpo", "rm") else 1), 1)
    num_tokens = float(steps["tokens_per_step"])
    forward = 0.0
    if config.stage == "kto":  # half of the tokens are the KL rows'
        num_tokens, forward = num_tokens / 2, num_tokens / 2
    flops = flops_per_step(
        work, num_tokens=num_tokens, num_labelled=0 if config.stage == "rm" else num_tokens * min(float(share), 1.0),
        context=float((lengths**2).sum() / max(lengths.sum(), 1)), num_forward=forward,
        recomputed={"none": 0.0, "selective": 0.5, "full": 1.0}[recompute],
    )  # fmt: skip
    rows = int(num_tokens / steps["accumulation"])
    bf16 = config.loop.bf16 or config.method.pure_bf16
    found = forecast_time(flops, steps["total"], device=device, bf16=bf16, width=width, rows=min(rows, MOST_ROWS))
    return found.as_json()


def chosen_recompute(config: RunConfig) -> str | None:
    """What the config says of activations: to be recomputed ("full") or not ("none"); None where it leaves that open."""
    if config.loop.gradient_checkpointing is not None:
        return "full" if config.loop.gradient_checkpointing else "none"
    return "none" if config.loop.disable_gradient_checkpointing else None


def this_device(*, use_cpu: bool) -> tuple[str, int | None]:
    """("cpu" or "cuda", the bytes that a run may take there): all of a GPU, or what the machine has free."""
    import torch

    if not use_cpu and torch.cuda.is_available():
        return "cuda", int(torch.cuda.get_device_properties(0).total_memory)
    return "cpu", free_memory()


def free_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup/memory.max")) -> int | None:
    """What this machine has left for a process, within the limit that its container sets; None where it does not tell."""
    found: list[int] = []
    with suppress(OSError, KeyError, ValueError):
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with suppress(OSError, ValueError):  # "max", or no such limit
        found.append(int(cgroup.read_text()))
    return min(found, default=None)


def num_processes(*, use_cpu: bool) -> int:
    """With how many processes ``trainkit run`` would start here."""
    from trainkit.launch import layout_from, visible_devices

    layout = layout_from(os.environ, visible_devices(use_cpu=use_cpu), use_cpu=use_cpu)
    return 1 if layout is None else layout.processes * int(layout.nodes.partition(":")[0])
