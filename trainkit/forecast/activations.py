"""What a run's model holds, and what a forward and backward pass on one micro-batch takes beside it, in bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from trainkit.config import RunConfig
from trainkit.data.collate import Batch
from trainkit.forecast.build import CannotFollow, build, depth_of, layers_of, period_of, read_model, with_depth
from trainkit.forecast.flops import Work, work_of
from trainkit.forecast.trace import Traced, fake_tensors, follow

FOLLOWED_WHOLE = 6  # layers; of a deeper model two short ones are followed, and what a layer adds is told from them


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of the weights as they are loaded and of the trained ones among them, by size of block: (all, small) as in
    ``Traced``. ``parameters`` and ``trained`` are numbers of weights, ``largest_layer`` the bytes of one layer."""

    weights: tuple[int, int]
    trained_weights: tuple[int, int]
    parameters: int
    trained: int
    largest_layer: int
    work: Work


class Model:
    """The model of a run as its config tells it: read once, followed for each way to run it."""

    def __init__(self, config: RunConfig, folder: str) -> None:
        """Raises ``CannotFollow``."""
        self._config, (self._hf, self._cls) = config, read_model(folder)

    @property
    def width(self) -> int:
        """The size of a hidden state."""
        return int(self._hf.get_text_config().hidden_size)

    def held(self, config: RunConfig, device: str) -> Held:
        """What the model of ``config`` holds. Raises ``CannotFollow``."""
        with fake_tensors():
            model = self._build(config, self._hf, device)
            sizes = [(p.requires_grad, p.numel() * p.element_size(), p.numel()) for p in model.parameters()]
            layer = max(sum(p.numel() * p.element_size() for p in one.parameters()) for one in layers_of(model))
            work = work_of(model)
        return Held(
            _by_size(size for _, size, _ in sizes),
            _by_size(size for trained, size, _ in sizes if trained),
            sum(count for *_, count in sizes),
            sum(count for trained, _, count in sizes if trained),
            layer,
            work,
        )

    def follow(self, config: RunConfig, batch: Batch, device: str, recompute: str) -> Traced:
        """The memory of one micro-batch. Raises ``CannotFollow``."""
        depth, period = depth_of(self._hf), period_of(self._hf)
        step = math.lcm(period, 2) if recompute == "selective" else period  # every second layer is recomputed
        first = max(step, 2)
        uniform = step > 0 and config.method.finetuning_type != "freeze" and first + step < depth
        if not uniform or depth <= FOLLOWED_WHOLE:
            return self._follow(config, self._hf, batch, device, recompute)
        short, longer = (
            self._follow(config, with_depth(self._hf, n), batch, device, recompute) for n in (first, first + step)
        )
        return short.deeper(longer, (depth - first) / step)

    def _follow(self, config: RunConfig, hf: Any, batch: Batch, device: str, recompute: str) -> Traced:
        from trainkit.engine import switch_recompute

        with fake_tensors() as mode, _own_room():
            model = self._build(config, hf, device)
            switch_recompute(model, config.loop, recompute)
            objective = objective_of(config, model, device)
            fake = _faked(batch, lambda tensor: mode.from_tensor(tensor).to(device))
            reference = torch.empty(2, fake.num_sequences // (1 if config.stage == "kto" else 2), device=device)
            if config.stage == "rm":
                loss_of: Callable[[], torch.Tensor] = lambda: _scored(objective, fake)  # noqa: E731
            else:
                loss_of = lambda: objective(fake, reference)[0]  # noqa: E731
            decoder: Any = (model.get_base_model() if hasattr(model, "peft_config") else model).base_model  # type: ignore[operator]
            try:
                return follow(
                    objective, decoder, list(layers_of(model)), loss_of,
                    accumulates=config.loop.gradient_accumulation_steps > 1,
                )  # fmt: skip
            except Exception as error:  # what cannot be told without values: experts, mostly
                raise CannotFollow(
                    f"its forward pass depends on values ({type(error).__name__}: {str(error).splitlines()[:1]})"
                ) from error

    def _build(self, config: RunConfig, hf: Any, device: str) -> nn.Module:
        return build(hf, self._cls, config.model, config.method, bf16=config.loop.bf16, device=device)


def objective_of(config: RunConfig, model: nn.Module, device: str) -> Any:
    """The stage's objective around a model without values: its head is the one that the config tells of, untried."""
    from trainkit.head import OutputHead, _guesses, decoder_and_head
    from trainkit.objective import Objective, ValueHead
    from trainkit.stages import STAGES, Settings

    kept: dict[str, torch.Tensor] = {}
    stage = STAGES[config.stage]
    settings = Settings(config.preference, config.loss, torch.device(device), lambda value: value, kept)
    head = OutputHead(decoder_and_head(model)[1], *next(_guesses(model)))
    size = model.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
    v_head = ValueHead(size).to(device) if stage.has_value_head else None
    objective = Objective(model, stage.way(settings), head, v_head=v_head)
    if config.loop.bf16:
        objective.autocast = lambda: torch.autocast(device, dtype=torch.bfloat16)
    return objective


def _scored(objective: Any, batch: Batch) -> torch.Tensor:
    """The reward model's pass; which token of a sequence is its last is a matter of values, so some are taken."""
    from trainkit.head import decoder_and_head
    from trainkit.logprobs import model_inputs

    with objective.autocast():
        hidden = decoder_and_head(objective.model)[0](**model_inputs(objective.model, batch)).last_hidden_state
        rows = torch.zeros(batch.num_sequences, dtype=torch.int64, device=hidden.device)
        return objective.v_head(hidden.view(-1, hidden.shape[-1])[rows]).sum()


def _faked(batch: Batch, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    """The batch with every tensor changed; what it worked out when it was made is kept, for it depends on values."""
    found: Batch = object.__new__(Batch)
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor):
            value = change(value)
        elif isinstance(value, Batch):
            value = _faked(value, change)
        object.__setattr__(found, field.name, value)
    return found


@contextmanager
def _own_room() -> Iterator[None]:
    """The head keeps its room for the next step: one without memory must not be what a run finds there."""
    from trainkit.head_chunks import _Room

    kept = dict(_Room._kept)
    _Room._kept.clear()
    try:
        yield
    finally:
        _Room._kept.clear()
        _Room._kept.update(kept)


def _by_size(sizes: Iterator[int]) -> tuple[int, int]:
    from trainkit.forecast.trace import MAPPED

    found = list(sizes)
    return sum(found), sum(size for size in found if size < MAPPED)


def changed(config: RunConfig, **keys: Any) -> RunConfig:
    """The config with some keys of its parts replaced."""
    for part in ("model", "method", "loop", "optim", "data"):
        own = {k: v for k, v in keys.items() if k in {f.name for f in fields(getattr(config, part))}}
        if own:
            config = replace(config, **{part: replace(getattr(config, part), **own)})
    return config
