"""Preference optimisation on pairs: any of ``stages.losses``, with what LLaMA-Factory lets one add to it.

    L = L_pref(pi, ref) + pref_ftx * NLL(chosen),        then  (L + w * L_bco) / (1 + w)  with w = pref_bco_weight

NLL(chosen) is the mean over the chosen answer's tokens. ``ld_alpha`` weighs the tokens of an answer beyond the length of
the other one: Liu et al. 2024, "Length Desensitization in Direct Preference Optimization", eq. 9 (the policy's side only,
as LLaMA-Factory 0.9.5). The divisor is the number of pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainkit.config import PreferenceConfig
from trainkit.data.collate import Batch
from trainkit.logprobs import TokenLogprobs
from trainkit.stages.losses import AVERAGED, PAIR_LOSSES, REFERENCE_FREE, bco, orpo


def needs_reference(settings: PreferenceConfig) -> bool:
    """Whether a frozen model's log-probabilities are part of the loss."""
    return settings.pref_loss not in REFERENCE_FREE


def make_loss(  # type: ignore[no-untyped-def]
    settings: PreferenceConfig,
    baseline: bco.RunningMean | None = None,
    sum_over_ranks: Callable[[torch.Tensor], torch.Tensor] = lambda value: value,
):
    """The loss of a run; ``baseline`` is the running mean of rewards that ``pref_bco_weight`` needs, the same on all ranks;
    ``sum_over_ranks`` adds up what every rank holds."""
    averaged, weight = settings.pref_loss in AVERAGED, settings.pref_bco_weight
    pair_loss = PAIR_LOSSES[settings.pref_loss]

    def loss(
        logprobs: TokenLogprobs, batch: Batch, reference: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        lengths = logprobs.lengths().reshape(2, -1).clamp(min=1)
        sums = logprobs.by_row().reshape(2, -1)
        policy = sums if settings.ld_alpha is None else length_desensitised(logprobs, settings.ld_alpha)
        if averaged:
            policy = policy / lengths
            reference = None if reference is None else reference / lengths
        losses = pair_loss(policy, reference, settings)
        metrics = measured(policy, reference, settings)
        if settings.pref_ftx > 0:
            losses = losses - settings.pref_ftx * sums[0] / lengths[0]
        if weight > 0 and reference is not None:
            assert baseline is not None, "pref_bco_weight needs a running mean of rewards"
            level = baseline.mean
            if torch.is_grad_enabled():
                rewards = (settings.pref_beta * (policy - reference)).detach().mean()
                own = torch.stack((rewards, torch.ones_like(rewards))) * (0.0 if batch.idle else 1.0)
                total, count = sum_over_ranks(own)
                level = baseline.update(total / count)  # 0 / 0 where all are idle is no number, and taken for none
            losses = (losses + weight * bco.loss(policy, reference, settings.pref_beta, level)) / (1 + weight)
        return losses.sum(), metrics

    return loss


def length_desensitised(logprobs: TokenLogprobs, alpha: float) -> torch.Tensor:
    """[2, pairs]: log-probabilities summed over each answer, its tokens beyond the shorter one's length times ``alpha``."""
    lengths = logprobs.lengths().reshape(2, -1)
    shared = lengths.amin(0).repeat(2)
    at = torch.arange(len(logprobs.rows), device=logprobs.rows.device)
    first = torch.full((logprobs.num_rows,), len(at), device=at.device).scatter_reduce(0, logprobs.rows, at, "amin")
    beyond = at - first[logprobs.rows] >= shared[logprobs.rows]
    values = torch.where(beyond, alpha * logprobs.values, logprobs.values)
    return values.new_zeros(logprobs.num_rows).index_add(0, logprobs.rows, values).reshape(2, -1)


@torch.no_grad()
def measured(
    policy: torch.Tensor, reference: torch.Tensor | None, settings: PreferenceConfig
) -> dict[str, torch.Tensor]:
    """Sums over pairs. Without a reference the reward is beta times the log-probability."""
    rewards = settings.pref_beta * (policy if reference is None else policy - reference)
    margin = rewards[0] - rewards[1]
    found = {
        "rewards/chosen": rewards[0].sum(),
        "rewards/rejected": rewards[1].sum(),
        "rewards/accuracies": (margin > 0).float().sum(),
        "rewards/margins": margin.sum(),
        "logps/chosen": policy[0].sum(),
        "logps/rejected": policy[1].sum(),
    }
    if settings.pref_loss == "orpo":
        found["sft_loss"] = -policy[0].sum()
        found["odds_ratio_loss"] = -torch.nn.functional.logsigmoid(orpo.log_odds_ratio(policy)).sum()
    return found
