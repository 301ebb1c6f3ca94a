"""Log-probability of each trained token: the common ground of all stages, and the one home of the shift by one."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from registry.encode import IGNORE
from trainkit.data.collate import Batch
from trainkit.head import OutputHead, decoder_and_head
from trainkit.head_logprobs import Scores, head_logprobs, scores_of_logits
from trainkit.head_terms import Anchor, Factor, Terms


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """``values`` [N] float32: log-probability of each trained token of a batch; ``rows`` [N]: its sequence.

    ``weights`` [N] float32: how much each token counts; None where all count the same. Where it was asked for:
    ``total``, the sum of weight * (factor * value - strength * kl), which then alone has a gradient; ``factors`` and
    ``kl`` [N] float32; ``correct`` [N] bool, whether no token is likelier.
    """

    values: torch.Tensor
    rows: torch.Tensor
    num_rows: int
    weights: torch.Tensor | None = None
    total: torch.Tensor | None = None
    factors: torch.Tensor | None = None
    correct: torch.Tensor | None = None
    kl: torch.Tensor | None = None

    def by_row(self) -> torch.Tensor:
        """The sum for each sequence, [B]."""
        return self.values.new_zeros(self.num_rows).index_add(0, self.rows, self.values)

    def lengths(self) -> torch.Tensor:
        """The number of trained tokens of each sequence, [B] float32."""
        return self.values.new_zeros(self.num_rows).index_add(0, self.rows, torch.ones_like(self.values))


@dataclass(frozen=True, slots=True)
class AnchorModel:
    """The frozen model that the policy is held near, at ``strength`` a nat; None for the policy without its adapters."""

    model: nn.Module | None
    strength: float


def token_logprobs(
    model: nn.Module,
    batch: Batch,
    head: OutputHead | None,
    *,
    linear: bool = False,
    factor: Factor | None = None,
    want_correct: bool = False,
    anchor: AnchorModel | None = None,
) -> TokenLogprobs:
    """Run the model on a batch. The token at position t is predicted from position t - 1.

    The head is applied to the positions that have a label and to no other, and in chunks: at a vocabulary of 150,000 the
    logits are most of the memory and much of the time. Without a ``head`` (``find_head`` knows none) the model makes all
    of them. ``linear`` says that the loss is a multiple of ``total``, which saves computing logits twice.
    """
    rows, places = trained_places(batch)
    targets = batch.labels[rows, places + 1]
    weights = None if batch.weights is None else batch.weights[rows, places + 1]
    coefficients = None
    if linear:
        coefficients = torch.ones(len(rows), device=rows.device) if weights is None else weights
    pull = anchored(model, batch, head, anchor) if anchor else None
    terms = Terms(coefficients, factor, pull, want_correct)
    found = _scores(model, batch, head, (rows, places), targets, terms)
    owners = rows if batch.documents is None else batch.documents[rows, places + 1]
    return TokenLogprobs(
        found.values, owners, batch.num_sequences, weights, found.total, found.factors, found.correct, found.kl
    )


def trained_places(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, places) of the tokens that the trained ones are predicted from, both int64 [N]."""
    if batch.trained is not None:  # known since the batch was made: finding them on a GPU would wait for it
        return batch.trained[0], batch.trained[1]
    rows, places = torch.nonzero(batch.labels[:, 1:] != IGNORE, as_tuple=True)
    return rows, places


def _scores(
    model: nn.Module, batch: Batch, head: OutputHead | None, at: tuple[torch.Tensor, torch.Tensor], targets: torch.Tensor, terms: Terms
) -> Scores:  # fmt: skip
    if head is None:
        return scores_of_logits(_logits(model, batch, at), targets, terms)
    return head_logprobs(_hidden(model, batch, at), head, targets, terms)


def _hidden(model: nn.Module, batch: Batch, at: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    decoder, _ = decoder_and_head(model)
    hidden = decoder(**model_inputs(model, batch)).last_hidden_state
    return hidden.view(*batch.input_ids.shape, -1)[at]


def _logits(model: nn.Module, batch: Batch, at: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return model(**model_inputs(model, batch)).logits.view(*batch.input_ids.shape, -1)[at]


def anchored(model: nn.Module, batch: Batch, head: OutputHead | None, anchor: AnchorModel) -> Anchor:
    """What the frozen model makes of the batch: its hidden states at the trained places, and its way to logits."""
    frozen = anchor.model or model
    apart = model.disable_adapter if anchor.model is None else nullcontext
    at = trained_places(batch)
    was_training = frozen.training
    if was_training:
        frozen.eval()  # neither dropout nor noise on what is to be stayed near
    try:
        with torch.no_grad(), apart():  # type: ignore[operator]
            if head is None:
                return Anchor(_logits(frozen, batch, at), lambda logits: logits, anchor.strength)
            hidden = _hidden(frozen, batch, at)
    finally:
        if was_training:
            frozen.train()
    own = replace(head, module=decoder_and_head(frozen)[1])
    plain = own.read() is not None

    def logits(some: torch.Tensor) -> torch.Tensor:
        # an adapter may sit on the head itself
        with torch.no_grad(), nullcontext() if plain else apart():  # type: ignore[operator]
            return own.logits(some)

    return Anchor(hidden, logits, anchor.strength)


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """What a forward pass is called with.

    Without a mask, transformers (5.23, ``masking_utils``) makes a block-diagonal causal mask where positions restart,
    for sdpa, eager and flex attention. Flash attention gets no mask but the lengths of the examples, all blocks as one
    row: by itself it would read the restarts off the device in every layer, and only of a single row
    (``_is_packed_sequence``; of several rows it would let the examples of a row see each other).
    """
    if batch.position_ids is None:
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "use_cache": False}
    ids, positions = batch.input_ids, batch.position_ids
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None) or ""
    lengths: dict[str, Any] = {}
    if batch.attention_mask is None and "flash" in attention:
        ids, positions = ids.view(1, -1), positions.view(1, -1)
        if batch.starts is not None and takes_lengths(model):
            lengths = {"cu_seq_lens_q": batch.starts, "cu_seq_lens_k": batch.starts}
            lengths |= {"max_length_q": batch.longest, "max_length_k": batch.longest}
    return {
        "input_ids": ids,
        "attention_mask": batch.attention_mask,
        "position_ids": positions,
        "use_cache": False,
        **lengths,
    }


def takes_lengths(model: nn.Module) -> bool:
    """Whether a model hands what it does not know itself down to its attention layers."""
    decoder, _ = decoder_and_head(model)
    kinds = (p.kind for p in inspect.signature(type(decoder).forward).parameters.values())
    return inspect.Parameter.VAR_KEYWORD in kinds


@torch.no_grad()
def keeps_packed_apart(model: nn.Module) -> bool:
    """Whether a token is blind to the examples before its own in a block (``model_inputs``).

    Tried out: what a model gives for the second of two examples must not change with the first. Recurrent and
    convolutional layers, and models that know no position ids, fail.
    """
    device = next(model.parameters()).device
    ids = torch.tensor([[0, 1, 2, 3, 8, 9], [4, 5, 6, 7, 8, 9]])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1]])
    was_training = model.training
    model.eval()
    try:
        one, other = (
            model(**model_inputs(model, Batch(row[None], None, row[None], 0, 6, (), positions).to(device)))
            .logits[0]
            .float()
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
