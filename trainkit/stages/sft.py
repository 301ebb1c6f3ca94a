"""Supervised fine-tuning: only the answer's tokens are trained, given everything before them.

    L = - sum_{t in answer} f_t log p(x_t | x_<t)

Ouyang et al. 2022, "Training language models to follow instructions with human feedback", section 3.5, with f = 1; other
factors, and what asft adds, are in ``dft``, ``eaft`` and ``asft``. The divisor is the number of trained tokens of the whole
optimizer step, over all micro-batches and ranks (``Batch.weight``). Where answers have weights, each token's term and its
part of the divisor are multiplied by the weight of its answer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from trainkit.config import LossConfig
from trainkit.data.collate import Batch
from trainkit.head import OutputHead
from trainkit.head_terms import Factor
from trainkit.logprobs import AnchorModel, TokenLogprobs, token_logprobs
from trainkit.stages import asft, dft, eaft

# see trainkit.objective.Loss
Loss = Callable[[TokenLogprobs, Batch, torch.Tensor | None], tuple[torch.Tensor, dict[str, torch.Tensor]]]
Forward = Callable[[nn.Module, Batch, OutputHead | None, nn.Module | None], TokenLogprobs]


def make_forward(settings: LossConfig, *, want_correct: bool = False) -> Forward:
    """The forward pass of pt and sft. Its last argument is the frozen model of asft, None for the policy's own base."""
    factor = factor_of(settings)

    def forward(
        model: nn.Module, batch: Batch, head: OutputHead | None, frozen: nn.Module | None = None
    ) -> TokenLogprobs:
        anchor = AnchorModel(frozen, settings.asft_alpha) if settings.use_asft_loss else None
        return token_logprobs(model, batch, head, linear=True, factor=factor, want_correct=want_correct, anchor=anchor)

    return forward


def factor_of(settings: LossConfig) -> Factor | None:
    """What each token counts by; None where all count the same."""
    if settings.use_asft_loss:
        return asft.factor
    if settings.use_dft_loss:
        return dft.factor
    return eaft.make_factor(settings.eaft_alpha) if settings.use_eaft_loss else None


def loss(
    logprobs: TokenLogprobs, batch: Batch, reference: torch.Tensor | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The negative log-likelihood of the batch's trained tokens, each times its weight and factor, summed; metrics are
    [2] each: a sum and what to divide it by."""
    metrics: dict[str, torch.Tensor] = {}
    if logprobs.correct is not None:
        right = logprobs.correct.sum(dtype=torch.float32)
        metrics["token_accuracy"] = torch.stack((right, torch.full_like(right, len(logprobs.correct))))
    if logprobs.kl is not None:
        pull = logprobs.kl.detach().sum()
        metrics["kl"] = torch.stack((pull, torch.full_like(pull, len(logprobs.kl))))
    assert logprobs.total is not None, "the forward pass of sft asks for the sum"
    return -logprobs.total, metrics


def make_loss(settings: LossConfig) -> Loss:
    """The loss of a run: what its settings ask for was computed with the head."""
    return loss
