"""What a run asks the forecast for once its rows are there: whether to recompute activations, and the ways out."""

from __future__ import annotations

from trainkit.backends.base import Backend
from trainkit.config import RunConfig
from trainkit.data.feed import Data
from trainkit.data.stream_feed import StreamData
from trainkit.forecast.activations import Model
from trainkit.forecast.advice import needs_recompute, ways_out
from trainkit.forecast.batches import largest_of
from trainkit.forecast.build import CannotFollow
from trainkit.forecast.memory import forecast_memory
from trainkit.forecast.report import chosen_recompute, this_device
from trainkit.forecast.sizes import as_size
from trainkit.parameters import count_parameters

SMALL = 20_000_000  # parameters; on a CPU a run of fewer is not worth the seconds that a forecast takes


def recompute_for(config: RunConfig, data: Data | StreamData, backend: Backend) -> str:
    """Which activations the run recomputes: "none", "selective" or "full", as the config says, or else as memory needs it."""
    chosen = chosen_recompute(config)
    if chosen is not None:
        return chosen
    count = count_parameters(config.model, config.method).total
    if isinstance(data, StreamData) or (backend.device.type == "cpu" and (count is None or count < SMALL)):
        return "none"
    make, (device, limit) = largest_of(data), this_device(use_cpu=config.loop.use_cpu)
    if make is None:
        return "none"
    batch = make(config.loop.per_device_train_batch_size, config.data.cutoff_len)
    try:
        model = Model(config, str(data.tokenizer_folder))
        return needs_recompute(config, model, batch, device=device, processes=backend.world_size, limit=limit)
    except CannotFollow:
        return "full" if backend.device.type == "cuda" else "none"  # as LLaMA-Factory does, where nothing is known


def advice(config: RunConfig, data: Data | StreamData, backend: Backend, recompute: str) -> list[str]:
    """The three changes that would save most, a line each with the memory that each saves."""
    plain = "Lower per_device_train_batch_size (with more gradient_accumulation_steps) or cutoff_len."
    if isinstance(data, StreamData) or (make := largest_of(data)) is None:
        return [plain]
    batch = make(config.loop.per_device_train_batch_size, config.data.cutoff_len)
    device, limit = this_device(use_cpu=config.loop.use_cpu)
    try:
        model = Model(config, str(data.tokenizer_folder))
        now = forecast_memory(
            config, model, batch, device=device, processes=backend.world_size, recompute=recompute, limit=limit
        )
        ways = ways_out(config, model, make, now)
    except CannotFollow:
        return [plain]
    return [f"{way.change}: saves {as_size(way.saves)}" for way in ways] or [plain]
