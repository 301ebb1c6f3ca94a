"""What can be asked of the head beside log-probabilities: coefficients, factors, an anchor to be held near."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

TOP = 20  # logits that the entropy of eaft is taken over

# (log-probabilities [n], their top-20 entropies when called) -> what each term counts, [n]; without a gradient
Factor = Callable[[torch.Tensor, Callable[[], torch.Tensor]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Anchor:
    """A frozen model to stay near: its hidden states [N, H], how it makes logits of them, and ``strength``, what one nat
    of KL(anchor || policy) costs."""

    hidden: torch.Tensor
    logits: Callable[[torch.Tensor], torch.Tensor]
    strength: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked beside the log-probabilities. ``coefficients`` [N] float32 say that the loss is known beforehand."""

    coefficients: torch.Tensor | None = None
    factor: Factor | None = None
    anchor: Anchor | None = None
    want_correct: bool = False


def weighted_sum(
    values: torch.Tensor, factors: torch.Tensor | None, kl: torch.Tensor | None, terms: Terms
) -> torch.Tensor:
    """The sum of coefficient * (factor * value - strength * kl) over all tokens."""
    each = values if factors is None else values * factors
    if kl is not None:
        assert terms.anchor is not None
        each = each - terms.anchor.strength * kl
    assert terms.coefficients is not None
    return (each * terms.coefficients).sum()


def top_entropy(scores: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of each row of ``scores`` [n, V] (probabilities up to a factor) among its 20 largest, [n].

    They are sought in the 20 blocks of 64 with the largest maxima, where they must be: one pass instead of a sort.
    """
    vocab_size, block = scores.shape[1], 64
    body = vocab_size // block * block
    if body > TOP * block:
        blocks = scores[:, :body].unflatten(1, (-1, block))
        best = blocks.amax(2).topk(TOP, dim=1, sorted=False).indices
        near = blocks.gather(1, best[:, :, None].expand(-1, -1, block)).flatten(1)
        scores = torch.cat((near, scores[:, body:]), 1)
    largest = scores.topk(min(TOP, scores.shape[1]), dim=1, sorted=False).values
    among = largest / largest.sum(1, keepdim=True)
    return -torch.xlogy(among, among).sum(1)
