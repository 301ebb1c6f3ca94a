"""What would make a run fit: each change forecast, the three that save most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trainkit.config import RunConfig
from trainkit.data.collate import Batch
from trainkit.forecast.activations import Model, changed
from trainkit.forecast.batches import MakeBatch
from trainkit.forecast.build import CannotFollow
from trainkit.forecast.memory import Memory, forecast_memory
from trainkit.forecast.sizes import as_size

MOST = 3
LEAST_CUTOFF = 128  # tokens; below twice that nobody would halve it
ROOM = 0.9  # of a device's memory that a forecast may fill: it is right within 15%, and others may live there too


@dataclass(frozen=True, slots=True)
class WayOut:
    """A change of the config, in its own words, and the bytes that it saves; ``fits`` tells whether it is enough alone."""

    change: str
    saves: int
    fits: bool

    def __str__(self) -> str:
        return f"{self.change}: saves {as_size(self.saves)}" + (", and the run fits" if self.fits else "")


def ways_out(config: RunConfig, model: Model, make: MakeBatch, now: Memory) -> list[WayOut]:
    """At most three changes, the one that saves most first; ``now`` is the forecast of the run as it is."""
    found = []
    for words, other, smaller, recompute in _changes(config, make, now.recompute):
        try:
            then = forecast_memory(
                other, model, smaller, device=now.device, processes=now.processes, recompute=recompute, limit=now.limit
            )
        except CannotFollow:
            continue
        if then.total < now.total:
            found.append(WayOut(words, now.total - then.total, then.fits))
    return sorted(found, key=lambda way: -way.saves)[:MOST]


def needs_recompute(
    config: RunConfig, model: Model, batch: Batch, *, device: str, processes: int = 1, limit: int | None
) -> str:
    """Which activations must be computed again for the run to fit into ``limit`` bytes: "none", those of every second layer
    ("selective"), or "full", which also stands for a run that fits in no way. Raises ``CannotFollow``."""
    if limit is None:
        return "none"
    for recompute in ("none", "selective"):
        found = forecast_memory(config, model, batch, device=device, processes=processes, recompute=recompute)
        if found.total <= ROOM * limit:
            return recompute
    return "full"


def _changes(config: RunConfig, make: MakeBatch, recompute: str) -> Iterator[tuple[str, RunConfig, Batch, str]]:
    """(words, config, micro-batch, recompute) of everything that could be done."""
    loop, method, cutoff = config.loop, config.method, config.data.cutoff_len
    size, accumulation = loop.per_device_train_batch_size, loop.gradient_accumulation_steps
    batch = make(size, cutoff)
    if size > 1:
        words = f"per_device_train_batch_size {size} → 1 with gradient_accumulation_steps {accumulation} → {accumulation * size}"
        other = changed(config, per_device_train_batch_size=1, gradient_accumulation_steps=accumulation * size)
        yield words, other, make(1, cutoff), recompute
    if recompute != "full":
        yield "gradient_checkpointing: true", config, batch, "full"
    if cutoff >= 2 * LEAST_CUTOFF:
        shorter = changed(config, cutoff_len=cutoff // 2)
        yield f"cutoff_len {cutoff} → {cutoff // 2}", shorter, make(size, cutoff // 2), recompute
    if method.finetuning_type in ("full", "freeze"):
        yield "finetuning_type: lora", changed(config, finetuning_type="lora"), batch, recompute
        if config.optim.optim in ("adamw_torch", "adamw_torch_fused"):
            yield "optim: adamw_8bit", changed(config, optim="adamw_8bit"), batch, recompute
        if not method.pure_bf16:
            yield "pure_bf16: true", changed(config, pure_bf16=True, bf16=True), batch, recompute
    elif config.model.quantization_bit is None and method.finetuning_type == "lora":
        yield "quantization_bit: 4", changed(config, quantization_bit=4), batch, recompute
    if not loop.bf16 and not method.pure_bf16:
        yield "bf16: true", changed(config, bf16=True), batch, recompute
