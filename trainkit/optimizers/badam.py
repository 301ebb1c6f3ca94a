"""BAdam: one block of layers, or one share of every weight, at a time (Luo et al. 2024, arXiv 2404.02827), by badam."""

from __future__ import annotations

import re
import sys
import warnings
from contextlib import AbstractContextManager, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.config import OptimConfig
from trainkit.optimizers.groups import Named, decay_groups
from trainkit.optimizers.named import adam_settings


def build(settings: OptimConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    """``use_badam``. Embeddings and the head belong to no block, so they are not trained.

    Raises ``UsageError`` where the model has no numbered layers, or fewer blocks than ``badam_start_block`` names.
    """
    with warnings.catch_warnings(), _aside(settings.badam_verbose):
        warnings.filterwarnings("ignore", message="BAdam expect model")  # fp32 weights cost memory, nothing else
        make = _by_layer if settings.badam_mode == "layer" else _by_share
        return make(settings, model, trainable)


def _by_layer(settings: OptimConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    from badam import BlockOptimizer

    blocks = len({part for name, _ in trainable for part in _layer_of(name)})
    start = settings.badam_start_block
    if not blocks:
        raise UsageError('"use_badam: true" finds no numbered layers among the trained weights', mend="Remove the key.")
    if start is not None and not 0 <= start < blocks:
        raise UsageError(
            f'"badam_start_block" is {start}, and there are {blocks} blocks: 0 to {blocks - 1}',
            mend="Choose one of them, or remove the key.",
        )
    groups = decay_groups(model, trainable, settings.weight_decay)
    base = torch.optim.AdamW(groups, **adam_settings(settings), weight_decay=settings.weight_decay, fused=True)
    # It lays the base's defaults over the decay of its own two groups, and would decay what is not to be.
    base.defaults.pop("weight_decay")
    if settings.badam_switch_mode == "fixed" and start is None:
        start = 0  # it has no first block of its own in this mode
    optimizer = BlockOptimizer(
        base_optimizer=base,
        named_parameters_list=list(trainable),
        switch_block_every=settings.badam_switch_interval,
        start_block=start,
        switch_mode=settings.badam_switch_mode,
        verbose=settings.badam_verbose,
    )
    if settings.badam_switch_mode == "random" and start is not None:
        optimizer.block_order = torch.randperm(optimizer.block_num).tolist()
    switch = optimizer.switch_trainable_params

    def switch_aside() -> None:
        with _aside(settings.badam_verbose):
            switch(settings.badam_verbose)

    optimizer.switch_trainable_params = switch_aside
    return optimizer


def _by_share(settings: OptimConfig, model: nn.Module, trainable: Named) -> torch.optim.Optimizer:
    from badam import BlockOptimizerRatio

    if not any("embed" in name for name, _ in trainable):
        raise UsageError(
            '"badam_mode: ratio" finds no embedding among the trained weights to leave out',
            mend="Write badam_mode: layer.",
        )
    optimizer = BlockOptimizerRatio(
        decay_groups(model, trainable, settings.weight_decay),
        list(trainable),
        update_ratio=settings.badam_update_ratio,
        mask_mode=settings.badam_mask_mode,
        verbose=settings.badam_verbose,
        switch_every=settings.badam_switch_interval,
        include_embedding=False,
        include_lm_head=not any("lm_head" in name for name, _ in trainable),  # a tied head is no weight of its own
        **adam_settings(settings),
    )
    scatter = optimizer._generate_mask_scatter

    def scatter_with_its_own_numbers(*arguments: Any) -> torch.Tensor:
        with torch.random.fork_rng():  # it seeds the generator that dropout draws from
            return scatter(*arguments)

    optimizer._generate_mask_scatter = scatter_with_its_own_numbers
    return optimizer


def _layer_of(name: str) -> list[str]:
    return re.findall(r".*layers\.[^.]*\.", name)


def _aside(verbose: int) -> AbstractContextManager[object]:
    """It prints; stdout is for results, so its words go to stderr, and nowhere where none are asked for."""
    return redirect_stdout(sys.stderr if verbose > 0 else StringIO())
