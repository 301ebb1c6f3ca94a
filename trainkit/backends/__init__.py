"""Backends by name: where a run computes, with how many processes, and what each of them holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainkit.backends.base import Backend
    from trainkit.backends.process_group import Group
    from trainkit.config import BackendConfig, RunConfig


def choose_backend(settings: BackendConfig, world_size: int) -> str:
    """The name of the backend that a config asks for with so many processes."""
    if settings.deepspeed:
        return "deepspeed"
    if settings.fsdp and str(settings.fsdp).casefold() not in ("false", "none"):
        return "fsdp2"
    return "ddp" if world_size > 1 else "single"


def open_backend(config: RunConfig, group: Group) -> Backend:
    """This process's backend. Raises ``UsageError`` for what the config and the number of processes exclude."""
    return BACKENDS[choose_backend(config.backend, group.world_size)](config, group)


def open_group(config: RunConfig) -> Group:
    """Join the other processes of the run, or stay alone. Raises ``UsageError`` where they cannot be reached."""
    from trainkit.backends.process_group import Group, device_for
    from trainkit.place import place_of

    place = place_of()
    device = device_for(place, use_cpu=config.loop.use_cpu)
    if device.type == "cpu":  # read when deepspeed is loaded, by us or by a library that looks whether it is there
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return Group(place, device=device, timeout_s=config.backend.ddp_timeout, backend=config.backend.ddp_backend)


def _single(config: RunConfig, group: Group) -> Backend:
    from trainkit.backends.single import Single

    return Single(use_cpu=config.loop.use_cpu, bf16=config.loop.bf16, seed=config.loop.seed, group=group)


def _ddp(config: RunConfig, group: Group) -> Backend:
    from trainkit.backends.ddp import DDP

    return DDP(settings=config.backend, bf16=config.loop.bf16, seed=config.loop.seed, group=group)


def _fsdp2(config: RunConfig, group: Group) -> Backend:
    from registry.errors import Faults
    from trainkit.backends.fsdp2 import FSDP2
    from trainkit.backends.fsdp_config import read_fsdp

    plan, faults = read_fsdp(config.backend)
    if faults or plan is None:
        raise Faults(config.source, faults)
    return FSDP2(plan=plan, bf16=config.loop.bf16, seed=config.loop.seed, group=group)


def _deepspeed(config: RunConfig, group: Group) -> Backend:
    from registry.errors import Faults
    from trainkit.backends.deepspeed import DeepSpeed
    from trainkit.backends.deepspeed_config import fill_in, read_deepspeed
    from trainkit.backends.rules import backend_faults, numbers_of

    faults = backend_faults(config, group.world_size)
    found, _ = read_deepspeed(config.backend.deepspeed)
    if faults or found is None:
        raise Faults(config.source, faults)
    filled, _, notes = fill_in(found, numbers_of(config, group.world_size))
    return DeepSpeed(filled=filled, notes=notes, bf16=config.loop.bf16, seed=config.loop.seed, group=group)


BACKENDS: dict[str, Callable[[Any, Any], Any]] = {
    "single": _single,  # one process, one device
    "ddp": _ddp,  # the whole model in every process
    "fsdp2": _fsdp2,  # torch's fully_shard: each process holds a share
    "deepspeed": _deepspeed,  # ZeRO 0 to 3, as the user's JSON says
}
