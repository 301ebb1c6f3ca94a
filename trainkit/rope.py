"""Positions stretched beyond a model's longest sequence: the rope parameters of its config, for ``rope_scaling``."""

from __future__ import annotations

import logging
import math
from typing import Any

from registry.errors import UsageError

log = logging.getLogger("tunekit")

INFERENCE_FACTOR = 2.0  # as LLaMA-Factory 0.9.5: what was trained with a longer cutoff is not known there
# Kinds whose formulas need the length that the model was made for.
TOLD_LENGTH = ("yarn", "llama3")
LLAMA3_BANDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}  # as in Llama 3.1's config.json


def stretch_factor(limit: int, cutoff_len: int | None) -> float | None:
    """By how much positions are stretched for examples of ``cutoff_len`` tokens, None where ``limit`` takes them; for
    inference (``cutoff_len`` None) twofold."""
    if cutoff_len is None:
        return INFERENCE_FACTOR
    return None if cutoff_len <= limit else float(math.ceil(cutoff_len / limit))


def stretch(config: Any, kind: str, cutoff_len: int | None) -> None:
    """Change a transformers config, in place, so that the model built from it takes ``cutoff_len`` tokens.

    ``kind``: ``linear`` (Chen et al. 2023, position interpolation), ``dynamic`` (NTK-aware, by the length at hand),
    ``yarn`` (Peng et al. 2023), ``llama3`` (by wavelength, as Llama 3.1). The config is left as it is where
    ``cutoff_len`` fits, and at inference where its positions are stretched already. Raises ``UsageError`` for a model
    without rotary positions, with several kinds of them, or with such as are stretched already and too short.
    """
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None)
    if not rope or not isinstance(limit, int):
        raise UsageError(
            f'"rope_scaling": models of type {text.model_type} have no rotary positions with a limit to stretch',
            mend="Remove rope_scaling.",
        )
    if any(isinstance(part, dict) for part in rope.values()):
        raise UsageError(
            f'"rope_scaling": models of type {text.model_type} have other positions in each kind of layer',
            mend="Set them in the model's config.json, and remove rope_scaling.",
        )
    factor = stretch_factor(limit, cutoff_len)
    if factor is None:
        log.info("rope_scaling changes nothing: the model takes %d tokens, and cutoff_len is %d", limit, cutoff_len)
        return
    before = rope.get("rope_type", "default")
    if before != "default" and cutoff_len is None:
        log.info("rope_scaling changes nothing: the model's positions are stretched already (%s)", before)
        return
    if before != "default":
        raise UsageError(
            f'"rope_scaling": the model\'s positions are stretched already ({before}), to {limit} tokens',
            mend="Lower cutoff_len, or change the scaling in the model's config.json and remove rope_scaling.",
        )
    kept = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor", "mrope_section") if key in rope}
    told = {"original_max_position_embeddings": limit} if kind in TOLD_LENGTH else {}
    bands = LLAMA3_BANDS if kind == "llama3" else {}
    if kind == "dynamic":
        if cutoff_len is not None:
            log.warning(
                "rope_scaling: dynamic gives each length positions of its own, which trains worse than the others"
            )
        # transformers counts the stretch from the length in max_position_embeddings, so that stays the model's own.
    else:
        text.max_position_embeddings = int(limit * factor)
    text.rope_parameters = {**kept, "rope_type": kind, "factor": factor, **told, **bands}
    log.info("rope_scaling: %s stretches %d positions %g-fold", kind, limit, factor)


def stretched_limit(limit: int | None, kind: str | None, cutoff_len: int | None) -> int | None:
    """The longest sequence of a model that takes ``limit`` tokens, once its positions are stretched."""
    if kind is None or limit is None:
        return limit
    return int(limit * (stretch_factor(limit, cutoff_len) or 1))
