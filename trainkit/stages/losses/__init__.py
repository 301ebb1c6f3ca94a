"""Preference losses by name: each a pure function of the log-probabilities of pairs, one number a pair."""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainkit.config import PreferenceConfig
from trainkit.stages.losses import hinge, ipo, kto_pair, orpo, sigmoid, simpo

# (policy [2, pairs], reference [2, pairs] or None, settings) -> loss [pairs]; chosen stands first
PairLoss = Callable[[torch.Tensor, torch.Tensor | None, PreferenceConfig], torch.Tensor]

PAIR_LOSSES: dict[str, PairLoss] = {
    "sigmoid": sigmoid.loss,
    "hinge": hinge.loss,
    "ipo": ipo.loss,
    "kto_pair": kto_pair.loss,
    "orpo": orpo.loss,
    "simpo": simpo.loss,
}
# These compare mean log-probabilities of a token, not sums over an answer (as LLaMA-Factory 0.9.5).
AVERAGED = ("ipo", "orpo", "simpo")
# These need no reference: there is nothing to measure before the first step.
REFERENCE_FREE = ("orpo", "simpo")

__all__ = ["AVERAGED", "PAIR_LOSSES", "REFERENCE_FREE", "PairLoss"]
