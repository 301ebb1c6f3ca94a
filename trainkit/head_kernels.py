"""A fused kernel for the head on a GPU, taken only where it proves right and faster on the very head.

cut-cross-entropy (Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models", arXiv 2411.09009; package
cut-cross-entropy 25.x) makes neither logits nor their gradient in memory. Of the other candidate, Liger's fused loss, TRL's
measurements say 321 ms where this takes 93 and chunks take 224 (16k tokens, 248k vocabulary, H100): it is left out.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import replace

import torch

from trainkit.head import Head, OutputHead
from trainkit.head_chunks import compute_dtype
from trainkit.head_logprobs import head_logprobs
from trainkit.head_terms import Terms

log = logging.getLogger("tunekit")

PROBED_ON = 4096  # tokens; fewer say little about speed
CLOSE = 2e-2  # relative, of gradients in 16 bits


def with_kernel(head: OutputHead | None) -> OutputHead | None:
    """``head`` with a fused kernel where one is installed for its device, gives the same values and gradients, and is faster;
    else ``head`` as it is. To be called with the weights on their device, whole, under the run's autocast."""
    plain = head.read() if head else None
    if head is None or plain is None or plain.weight.device.type != "cuda":
        return head
    if importlib.util.find_spec("cut_cross_entropy") is None or compute_dtype(plain.weight) == torch.float32:
        return head
    try:
        same, ours_s, theirs_s = probe(cut_cross_entropy, plain)
    except (RuntimeError, ValueError, TypeError, ImportError) as error:  # another release, or a GPU it does not know
        log.info("cut-cross-entropy is not used: %s", error)
        return head
    if not same or theirs_s >= ours_s:
        log.info("cut-cross-entropy is not used: %s", "it is slower here" if same else "its gradients differ")
        return head
    log.info(
        "the head is computed by cut-cross-entropy: %.1f ms for %d tokens, chunks take %.1f",
        theirs_s * 1e3,
        PROBED_ON,
        ours_s * 1e3,
    )
    return replace(head, kernel=cut_cross_entropy)


def cut_cross_entropy(hidden: torch.Tensor, head: Head, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [N] float32 of ``targets`` from ``hidden`` [N, H], by the package."""
    from cut_cross_entropy import linear_cross_entropy

    dtype = compute_dtype(head.weight)
    scaled = hidden if head.scale == 1 else hidden * head.scale
    bias = head.bias if head.bias is None or head.scale == 1 else head.bias * head.scale
    # exact: gradients below the type's resolution are kept, since log-probabilities of preference losses are sums of many
    losses = linear_cross_entropy(
        scaled.to(dtype), head.weight.to(dtype), targets, bias=bias if bias is None else bias.to(dtype),
        softcap=head.softcap, reduction="none", impl="cce_exact",
    )  # fmt: skip
    return -losses.float()


def probe(kernel: Callable[[torch.Tensor, Head, torch.Tensor], torch.Tensor], head: Head) -> tuple[bool, float, float]:
    """(whether ``kernel`` agrees with the chunked head, seconds of the chunked head, seconds of ``kernel``), forward and
    backward over random hidden states."""
    weight = head.weight.detach().requires_grad_(head.weight.requires_grad)
    tried = replace(head, weight=weight, bias=None if head.bias is None else head.bias.detach())
    generator = torch.Generator(weight.device).manual_seed(0)
    vocab_size, width = weight.shape
    hidden = torch.randn(PROBED_ON, width, generator=generator, device=weight.device).requires_grad_()
    targets = torch.randint(vocab_size, (PROBED_ON,), generator=generator, device=weight.device)
    ones = torch.ones(PROBED_ON, device=weight.device)

    def chunked() -> torch.Tensor:
        total = head_logprobs(hidden, tried, targets, Terms(ones)).total
        assert total is not None
        return total

    found, seconds = [], []
    for run in (chunked, lambda: kernel(hidden, tried, targets).sum()):
        total, second = timed(run, [t for t in (hidden, weight) if t.requires_grad])
        found.append((total.detach(), *(t.grad for t in (hidden, weight) if t.grad is not None)))
        seconds.append(second)
        hidden.grad = weight.grad = None
    same = all(
        bool((ours.float() - theirs.float()).norm() <= CLOSE * ours.float().norm())
        for ours, theirs in zip(*found, strict=True)
    )
    return same, seconds[0], seconds[1]


def timed(run: Callable[[], torch.Tensor], leaves: list[torch.Tensor]) -> tuple[torch.Tensor, float]:
    """The sum that ``run`` gives, its gradients in ``leaves``, and the seconds of the last of three rounds."""
    seconds = 0.0
    for _ in range(3):  # the first compiles
        for leaf in leaves:
            leaf.grad = None
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        total = run()
        total.backward()
        end.record()
        torch.cuda.synchronize()
        seconds = begin.elapsed_time(end) / 1e3
    return total, seconds
