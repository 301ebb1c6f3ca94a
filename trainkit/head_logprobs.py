"""Log-probabilities of targets from hidden states, by whichever way the head allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from trainkit.head import Head, OutputHead
from trainkit.head_chunks import Job, PerToken, Summed, chunk_rows, compute_dtype, slices
from trainkit.head_terms import Terms, top_entropy, weighted_sum


@dataclass(frozen=True, slots=True)
class Scores:
    """``values`` [N] float32: log-probabilities, with a gradient where no coefficients were given; else ``total`` has it:
    the sum of coefficient * (factor * value - strength * kl). ``factors``, ``kl`` [N] float32 and ``correct`` [N] bool (no
    token is likelier than the target) are there where asked for."""

    values: torch.Tensor
    total: torch.Tensor | None = None
    factors: torch.Tensor | None = None
    correct: torch.Tensor | None = None
    kl: torch.Tensor | None = None


def head_logprobs(
    hidden: torch.Tensor,
    head: OutputHead | Head,
    targets: torch.Tensor,
    terms: Terms | None = None,
    *,
    chunk: int | None = None,
) -> Scores:
    """The log-probability of each of ``targets`` [N] (int64) given its ``hidden`` [N, H], softmax in float32.

    ``chunk`` is the number of tokens at a time; None chooses by memory (``chunk_rows``).
    """
    terms = terms or Terms()
    assert terms.anchor is None or terms.coefficients is not None, "an anchor pulls on a sum that is known beforehand"
    plain = head if isinstance(head, Head) else head.read()
    if plain is None:
        assert isinstance(head, OutputHead)
        return _through_module(hidden, head, targets, terms, chunk)
    fits = not (terms.want_correct or terms.anchor or terms.factor) and len(hidden) > 0
    if isinstance(head, OutputHead) and head.kernel and fits:
        return _gathered([(head.kernel(hidden, plain, targets), None, None, None)], terms)
    parts = (hidden, plain.weight, plain.bias)
    needs = tuple(torch.is_grad_enabled() and t is not None and t.requires_grad for t in parts)
    job = Job(plain.scale, plain.softcap, compute_dtype(plain.weight), terms, chunk, needs)  # type: ignore[arg-type]
    if terms.coefficients is None:
        values, factors, correct = PerToken.apply(*parts, targets, job)
        return Scores(values, None, factors, correct)
    total, values, factors, correct, kl = Summed.apply(*parts, targets, job)
    return Scores(values, total, factors, correct, kl)


def scores_of_logits(logits: torch.Tensor, targets: torch.Tensor, terms: Terms) -> Scores:
    """The same from whole logits [N, V], by autograd."""
    found = _by_autograd(logits, targets, terms, terms.anchor.logits(terms.anchor.hidden) if terms.anchor else None)
    return _gathered([found], terms)


def _through_module(
    hidden: torch.Tensor, head: OutputHead, targets: torch.Tensor, terms: Terms, chunk: int | None
) -> Scores:
    """By autograd, each chunk's logits computed again in its backward pass."""

    def scored(some: torch.Tensor, goal: torch.Tensor, anchored: torch.Tensor | None) -> Any:
        return _by_autograd(head.logits(some), goal, terms, None if anchored is None else anchor_logits(anchored))

    def anchor_logits(some: torch.Tensor) -> torch.Tensor:
        assert terms.anchor is not None
        with torch.no_grad():
            return terms.anchor.logits(some)

    vocab_size = getattr(head.module, "out_features", None) or head.logits(hidden[:1].detach()).shape[-1]
    # logits, their float32 copy, log-probabilities, and the gradients of them
    rows = chunk or chunk_rows(vocab_size, 16, hidden.device)
    parts = list(slices(len(hidden), rows)) or [slice(0, 0)]
    anchored = terms.anchor.hidden if terms.anchor else None
    found = [
        checkpoint(scored, hidden[p], targets[p], None if anchored is None else anchored[p], use_reentrant=False)
        for p in parts
    ]
    return _gathered(found, terms)


def _by_autograd(
    logits: torch.Tensor, targets: torch.Tensor, terms: Terms, anchored: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    """(values, factors, correct, kl) of a chunk's logits."""
    log_probs = logits.float().log_softmax(1)
    values = log_probs.gather(1, targets[:, None])[:, 0]
    factors = correct = kl = None
    with torch.no_grad():
        if terms.factor:
            factors = terms.factor(values, lambda: top_entropy(log_probs.exp())).float()
        if terms.want_correct:
            correct = values >= log_probs.amax(1)
    if anchored is not None:
        log_anchor = anchored.float().log_softmax(1)
        kl = F.kl_div(log_probs, log_anchor, reduction="none", log_target=True).sum(1)
    return values, factors, correct, kl


def _gathered(found: list[Any], terms: Terms) -> Scores:
    values, factors, correct, kl = (None if each[0] is None else torch.cat(each) for each in zip(*found, strict=True))
    assert values is not None
    if terms.coefficients is None:
        return Scores(values, None, factors, correct, kl)
    total = weighted_sum(values, factors, kl, terms)
    return Scores(values.detach(), total, factors, correct, None if kl is None else kl.detach())
