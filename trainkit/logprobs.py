"""Log-probability of each trained token: the common ground of all stages, and the one home of the shift by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from registry.encode import IGNORE
from trainkit.data.collate import Batch


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """``values`` [N] float32: log-probability of each trained token of a batch; ``rows`` [N]: its sequence."""

    values: torch.Tensor
    rows: torch.Tensor
    num_rows: int

    def by_row(self) -> torch.Tensor:
        """The sum for each sequence, [B]."""
        return self.values.new_zeros(self.num_rows).index_add(0, self.rows, self.values)


def token_logprobs(model: nn.Module, batch: Batch, *, head_only: bool) -> TokenLogprobs:
    """Run the model on a batch. The token at position t is predicted from position t - 1.

    With ``head_only`` the head is applied to the positions that have a label and to no other: at a vocabulary of
    150,000 the logits of a prompt are most of the memory and much of the time. ``head_is_plain`` tells whether a
    model allows it.
    """
    target = batch.labels[:, 1:]
    rows, places = torch.nonzero(target != IGNORE, as_tuple=True)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    if head_only:
        decoder, head = decoder_and_head(model)
        logits = head(decoder(**inputs).last_hidden_state[rows, places])
    else:
        logits = model(**inputs).logits[rows, places]
    values = -F.cross_entropy(logits.float(), target[rows, places], reduction="none")
    return TokenLogprobs(values, rows, batch.input_ids.shape[0])


def decoder_and_head(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The stack that ends in hidden states and the matrix that makes logits of them, adapters included."""
    causal = model.get_base_model() if hasattr(model, "peft_config") else model
    return causal.base_model, causal.get_output_embeddings()  # type: ignore[operator, return-value]


@torch.no_grad()
def head_is_plain(model: nn.Module) -> bool:
    """Whether the logits are the head on the last hidden states and nothing more (no soft-cap, no scale).

    Tried out on four tokens rather than looked up by architecture: a wrong guess would train the wrong loss.
    """
    device = next(model.parameters()).device
    inputs = {
        "input_ids": torch.arange(4, device=device)[None],
        "attention_mask": torch.ones(1, 4, dtype=torch.int64, device=device),
    }
    try:
        decoder, head = decoder_and_head(model)
        was_training = model.training
        model.eval()
        hidden = decoder(**inputs, use_cache=False).last_hidden_state
        same = torch.allclose(head(hidden), model(**inputs, use_cache=False).logits, rtol=1e-4, atol=1e-5)
        model.train(was_training)
    except (AttributeError, TypeError):
        return False
    return same
