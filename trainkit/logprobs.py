"""Log-probability of each trained token: the common ground of all stages, and the one home of the shift by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from registry.encode import IGNORE
from trainkit.data.collate import Batch


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """``values`` [N] float32: log-probability of each trained token of a batch; ``rows`` [N]: its sequence.

    ``weights`` [N] float32: how much each token counts; None where all count the same.
    """

    values: torch.Tensor
    rows: torch.Tensor
    num_rows: int
    weights: torch.Tensor | None = None

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
    inputs, shape = model_inputs(model, batch), batch.input_ids.shape
    if head_only:
        decoder, head = decoder_and_head(model)
        logits = head(decoder(**inputs).last_hidden_state.view(*shape, -1)[rows, places])
    else:
        logits = model(**inputs).logits.view(*shape, -1)[rows, places]
    values = -F.cross_entropy(logits.float(), target[rows, places], reduction="none")
    weights = None if batch.weights is None else batch.weights[:, 1:][rows, places]
    return TokenLogprobs(values, rows, shape[0], weights)


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """What a forward pass is called with.

    Without a mask, transformers (5.23, ``masking_utils``) makes a block-diagonal causal mask where positions restart,
    for sdpa, eager and flex attention. Flash attention gets no mask: it reads the restarts itself, and only of a
    single row (``_is_packed_sequence``; of several rows it would let the examples of a row see each other), so there
    all blocks come as one row.
    """
    if batch.position_ids is None:
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    ids, positions = batch.input_ids, batch.position_ids
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None) or ""
    if batch.attention_mask is None and "flash" in attention:
        ids, positions = ids.view(1, -1), positions.view(1, -1)
    return {
        "input_ids": ids,
        "attention_mask": batch.attention_mask,
        "position_ids": positions,
        "use_cache": False,
    }


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


@torch.no_grad()
def keeps_packed_apart(model: nn.Module) -> bool:
    """Whether a token is blind to the examples before its own in a block (``model_inputs``).

    Tried out: what a model gives for the second of two examples must not change with the first. Recurrent and
    convolutional layers, and models that know no position ids, fail.
    """
    device = next(model.parameters()).device
    ids = torch.tensor([[0, 1, 2, 3, 8, 9], [4, 5, 6, 7, 8, 9]], device=device)
    positions = torch.tensor([[0, 1, 2, 3, 0, 1]], device=device)
    was_training = model.training
    model.eval()
    try:
        one, other = (
            model(**model_inputs(model, Batch(row[None], None, row[None], 0, 6, (), positions))).logits[0].float()
            for row in ids
        )
    except (AttributeError, TypeError):
        return False
    finally:
        model.train(was_training)
    change = (one - other).abs().amax(-1)
    # two runs of one shape, so all that may differ is how experts or kernels group the tokens
    exact = next(model.parameters()).dtype == torch.float32 and not torch.is_autocast_enabled(device.type)
    noise = 1e-5 if exact else 2e-2
    return bool(change[4:].max() <= noise * change[:4].max())
