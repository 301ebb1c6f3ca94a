"""Training stages by name: what each trains on, how its examples are batched, and how its loss is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainkit.config import LossConfig, PreferenceConfig
from trainkit.data.collate import Batch, collate_feedback, collate_pairs, collate_sequences
from trainkit.head import decoder_and_head
from trainkit.logprobs import TokenLogprobs, model_inputs, token_logprobs
from trainkit.objective import Objective, Way
from trainkit.stages import dpo, kto, rm, sft
from trainkit.stages.losses.bco import RunningMean


@dataclass(frozen=True, slots=True)
class Settings:
    """What the losses of all stages read. ``sum_over_ranks`` adds up a tensor of every rank; ``kept`` are the tensors of a
    loss that outlive a step, made on ``device``."""

    preference: PreferenceConfig
    loss: LossConfig
    device: torch.device
    sum_over_ranks: Callable[[torch.Tensor], torch.Tensor]
    kept: dict[str, torch.Tensor]
    want_correct: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One way to train. ``way`` builds its forward pass and loss from the settings that it reads."""

    collate: Callable[..., Batch]
    way: Callable[[Settings], Way]
    needs_reference: Callable[[PreferenceConfig], bool] = lambda settings: False
    has_value_head: bool = False


def _sft_way(settings: Settings) -> Way:
    plain = sft.make_forward(settings.loss)
    counting = sft.make_forward(settings.loss, want_correct=settings.want_correct)

    def forward(objective: Objective, batch: Batch) -> TokenLogprobs:
        run = plain if objective.training else counting  # counting costs a pass over the logits
        return run(objective.model, batch, objective.head, objective.anchor)

    return Way(forward, sft.loss)


def _dpo_way(settings: Settings) -> Way:
    baseline = None
    if settings.preference.pref_bco_weight > 0:
        for name in ("bco_mean", "bco_count"):
            settings.kept.setdefault(name, torch.zeros((), device=settings.device))
        baseline = RunningMean(settings.kept["bco_mean"], settings.kept["bco_count"])
    return Way(
        lambda objective, batch: token_logprobs(objective.model, batch, objective.head),
        dpo.make_loss(settings.preference, baseline, settings.sum_over_ranks),
        lambda objective, batch: token_logprobs(objective.model, batch, objective.head).by_row().reshape(2, -1),
    )


def _kto_way(settings: Settings) -> Way:
    def forward(objective: Objective, batch: Batch) -> kto.FeedbackLogprobs:
        assert batch.kl is not None
        with torch.no_grad():
            kl = token_logprobs(objective.model, batch.kl, objective.head).by_row()
        return kto.FeedbackLogprobs(token_logprobs(objective.model, batch, objective.head), kl)

    return Way(
        forward,
        kto.make_loss(settings.preference, settings.sum_over_ranks),
        lambda objective, batch: forward(objective, batch).by_row().reshape(2, -1),
    )


def _rm_way(settings: Settings) -> Way:
    def forward(objective: Objective, batch: Batch) -> torch.Tensor:
        """The score of each sequence, float32 [sequences]."""
        assert objective.v_head is not None
        decoder, _ = decoder_and_head(objective.model)
        hidden = decoder(**model_inputs(objective.model, batch)).last_hidden_state
        return objective.v_head(hidden.view(*batch.input_ids.shape, -1)[rm.last_tokens(batch)])

    return Way(forward, rm.loss)


STAGES: dict[str, Stage] = {
    "pt": Stage(collate_sequences, _sft_way),
    "sft": Stage(collate_sequences, _sft_way),
    "rm": Stage(collate_pairs, _rm_way, has_value_head=True),
    "dpo": Stage(collate_pairs, _dpo_way, needs_reference=dpo.needs_reference),
    "kto": Stage(collate_feedback, _kto_way, needs_reference=lambda settings: True),
}

__all__ = ["STAGES", "Settings", "Stage"]
