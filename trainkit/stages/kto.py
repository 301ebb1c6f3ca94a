"""Kahneman-Tversky optimisation: answers that were judged one by one, held against how far the policy has drifted.

    L = w_d [ 1 - sigmoid(beta * (r - z)) ]  for a desirable answer,   w_u [ 1 - sigmoid(beta * (z - r)) ]  for another
    r = log pi(y|x) - log ref(y|x),   z = max(0, mean over the KL rows of log pi(y'|x) - log ref(y'|x))

Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", eq. 7 and 8. The KL rows pair each prompt
with another row's answer; z carries no gradient and is the mean over the micro-batches of all ranks that are computed
together, so how a step is cut changes the loss. ``pref_ftx`` adds the NLL of desirable answers. The divisor is the number
of rows. With policy = reference every term is 1/2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainkit.config import PreferenceConfig
from trainkit.data.collate import Batch
from trainkit.logprobs import TokenLogprobs


@dataclass(frozen=True, slots=True)
class FeedbackLogprobs:
    """``own``: the judged answers' tokens; ``kl`` [rows]: log-probability of each KL row, without a gradient."""

    own: TokenLogprobs
    kl: torch.Tensor

    def by_row(self) -> torch.Tensor:
        """Sums of the judged answers, then of the KL rows, [2 x rows]."""
        return torch.cat((self.own.by_row(), self.kl))


def make_loss(settings: PreferenceConfig, sum_over_ranks: Callable[[torch.Tensor], torch.Tensor] = lambda value: value):  # type: ignore[no-untyped-def]
    """The loss of a run; ``sum_over_ranks`` adds up what every rank holds."""
    beta = settings.pref_beta

    def loss(
        logprobs: FeedbackLogprobs, batch: Batch, reference: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        assert reference is not None, "kto needs its reference"
        assert batch.desirable is not None, "kto needs its verdicts"
        with torch.no_grad():
            counted = 0.0 if batch.idle else 1.0
            drift = counted * (logprobs.kl - reference[1]).sum()
            count = torch.full_like(drift, counted * len(logprobs.kl))
            drift, count = sum_over_ranks(torch.stack((drift, count)))
            kl = (drift / count.clamp(min=1)).clamp(min=0)
        liked = batch.desirable
        sums = logprobs.own.by_row()
        gain = sums - reference[0]
        losses = torch.where(
            liked,
            settings.kto_chosen_weight * (1 - torch.sigmoid(beta * (gain - kl))),
            settings.kto_rejected_weight * (1 - torch.sigmoid(beta * (kl - gain))),
        )
        if settings.pref_ftx > 0:
            nll = -sums / logprobs.own.lengths().clamp(min=1)
            # rescaled by rows / desirable rows, as LLaMA-Factory 0.9.5 does
            count = liked.sum().clamp(min=1)
            losses = losses + settings.pref_ftx * (nll * liked).sum() / count * (len(nll) / count)
        return losses.sum(), measured(gain.detach(), sums.detach(), liked, kl, beta)

    return loss


def measured(
    gain: torch.Tensor, sums: torch.Tensor, liked: torch.Tensor, kl: torch.Tensor, beta: float
) -> dict[str, torch.Tensor]:
    """Each [2]: a sum and the number of rows that it is of; but ``kl``, a sum over rows."""
    found = {"kl": kl * len(gain)}
    for name, of in (("chosen", liked), ("rejected", ~liked)):
        count = of.sum().to(gain.dtype)
        found[f"rewards/{name}"] = torch.stack((beta * (gain * of).sum(), count))
        found[f"logps/{name}"] = torch.stack(((sums * of).sum(), count))
    return found
