"""The fused kernel of the head: what it is called with, and that nothing changes where it cannot run."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from trainkit.head import Head, OutputHead
from trainkit.head_kernels import cut_cross_entropy, with_kernel
from trainkit.head_logprobs import head_logprobs
from trainkit.head_terms import Terms


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """cut_cross_entropy with its function spelled in torch; the options of every call."""
    calls: list[dict[str, Any]] = []

    def linear_cross_entropy(
        e: torch.Tensor, c: torch.Tensor, targets: torch.Tensor, bias: Any = None, softcap: Any = None, **options: Any
    ) -> torch.Tensor:
        calls.append(options)
        logits = F.linear(e, c, bias)
        logits = logits if softcap is None else torch.tanh(logits / softcap) * softcap
        return F.cross_entropy(logits, targets, reduction=options["reduction"])

    module = ModuleType("cut_cross_entropy")
    module.linear_cross_entropy = linear_cross_entropy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", module)
    return calls


def made() -> tuple[torch.Tensor, nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(5, 8, requires_grad=True), nn.Linear(8, 40), torch.randint(40, (5,))


def test_on_a_cpu_the_head_stays_as_it_is() -> None:
    head = OutputHead(made()[1])
    assert with_kernel(head) is head
    assert with_kernel(None) is None


@pytest.mark.parametrize("known", [True, False])
def test_a_kernel_gives_what_the_chunks_give(known: bool, package: list[dict[str, Any]]) -> None:
    hidden, module, targets = made()
    found = []
    for kernel in (None, cut_cross_entropy):
        head = OutputHead(module, scale=0.5, softcap=2.0, kernel=kernel)
        scores = head_logprobs(hidden, head, targets, Terms(torch.arange(5.0)) if known else Terms())
        total = (scores.values * torch.arange(5.0)).sum() if scores.total is None else scores.total
        found.append((scores.values.detach(), *torch.autograd.grad(total, [hidden, module.weight, module.bias])))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    assert package == [{"reduction": "none", "impl": "cce_exact"}]


def test_what_a_kernel_does_not_give_is_computed_in_chunks(package: list[dict[str, Any]]) -> None:
    hidden, module, targets = made()
    head = OutputHead(module, kernel=cut_cross_entropy)
    assert head_logprobs(hidden, head, targets, Terms(want_correct=True)).correct is not None
    assert head_logprobs(hidden[:0], head, targets[:0]).values.shape == (0,)
    assert package == []


def test_a_head_read_without_its_module_has_no_kernel() -> None:
    hidden, module, targets = made()
    ours = head_logprobs(hidden, Head(module.weight, module.bias), targets).values
    torch.testing.assert_close(ours, -F.cross_entropy(module(hidden), targets, reduction="none"))
