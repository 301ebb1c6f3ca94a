"""Log-probabilities in chunks: F.cross_entropy and autograd are the oracle, of values and of gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainkit import head_chunks
from trainkit.head import Head, OutputHead
from trainkit.head_logprobs import Scores, head_logprobs, scores_of_logits
from trainkit.head_terms import Anchor, Terms, top_entropy

TOKENS, WIDTH, VOCAB = 13, 8, 70
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "soft-cap": {"softcap": 1.5},
    "scale": {"scale": 0.3},
    "all": {"bias": True, "softcap": 2.0, "scale": 1.7},
}


class Made:
    """Hidden states, a head and targets, with gradients wanted of all that can have one."""

    def __init__(
        self,
        *,
        bias: bool = False,
        softcap: float | None = None,
        scale: float = 1.0,
        tokens: int = TOKENS,
        vocab: int = VOCAB,
    ) -> None:
        generator = torch.Generator().manual_seed(3)
        self.hidden = torch.randn(tokens, WIDTH, generator=generator, requires_grad=True)
        self.weight = torch.randn(vocab, WIDTH, generator=generator, requires_grad=True)
        self.bias = torch.randn(vocab, generator=generator, requires_grad=True) if bias else None
        self.targets = torch.randint(vocab, (tokens,), generator=generator)
        self.weights = torch.rand(tokens, generator=generator) + 0.1
        self.head = Head(self.weight, self.bias, scale, softcap)

    def logits(self) -> torch.Tensor:
        raw = F.linear(self.hidden, self.weight, self.bias) * self.head.scale
        return raw if self.head.softcap is None else torch.tanh(raw / self.head.softcap) * self.head.softcap

    def expected(self) -> torch.Tensor:
        return -F.cross_entropy(self.logits(), self.targets, reduction="none")

    def gradients(self, loss: torch.Tensor) -> list[torch.Tensor]:
        leaves = [t for t in (self.hidden, self.weight, self.bias) if t is not None and t.requires_grad]
        return list(torch.autograd.grad(loss, leaves, retain_graph=True))


def close(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chunk", [1, 4, 13, None])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_cross_entropy(case: str, chunk: int | None) -> None:
    made = Made(**CASES[case])
    found = head_logprobs(made.hidden, made.head, made.targets, chunk=chunk)
    close(found.values, made.expected())
    assert found.values.dtype == torch.float32
    upstream = made.weights - 0.5  # of both signs, as preference losses have it
    close(made.gradients((found.values * upstream).sum()), made.gradients((made.expected() * upstream).sum()))


@pytest.mark.parametrize("chunk", [1, 4, 13, None])
@pytest.mark.parametrize("case", CASES)
def test_a_sum_known_beforehand_has_the_same_value_and_gradients(case: str, chunk: int | None) -> None:
    made = Made(**CASES[case])
    found = head_logprobs(made.hidden, made.head, made.targets, Terms(made.weights), chunk=chunk)
    expected = (made.expected() * made.weights).sum()
    assert found.total is not None
    close(found.total, expected)
    close(found.values, made.expected().detach())
    assert not found.values.requires_grad
    close(made.gradients(-found.total / 7), made.gradients(-expected / 7))


@given(st.integers(1, 20), st.integers(1, 24), st.sampled_from(sorted(CASES)), st.booleans())
def test_how_tokens_are_cut_into_chunks_changes_nothing(tokens: int, chunk: int, case: str, known: bool) -> None:
    made = Made(**CASES[case], tokens=tokens)
    terms = Terms(made.weights if known else None)

    def total(rows: int) -> torch.Tensor:
        found = head_logprobs(made.hidden, made.head, made.targets, terms, chunk=rows)
        return (found.values * made.weights).sum() if found.total is None else found.total

    close(made.gradients(total(chunk)), made.gradients(total(tokens)))


@pytest.mark.parametrize("known", [True, False])
def test_where_nothing_is_trained_every_gradient_is_zero(known: bool) -> None:
    made = Made(bias=True, tokens=0)
    found = head_logprobs(made.hidden, made.head, made.targets, Terms(made.weights if known else None))
    total = found.values.sum() if found.total is None else found.total
    assert float(total) == 0
    assert all(float(g.abs().sum()) == 0 for g in made.gradients(total))
    assert [g.shape for g in made.gradients(_again(made, known))] == [(0, WIDTH), (VOCAB, WIDTH), (VOCAB,)]


def _again(made: Made, known: bool) -> torch.Tensor:
    found = head_logprobs(made.hidden, made.head, made.targets, Terms(made.weights if known else None))
    return found.values.sum() if found.total is None else found.total


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_a_frozen_head_gets_no_gradient_and_passes_one_on(case: str, known: bool) -> None:
    made = Made(**CASES[case])
    frozen = Head(
        made.weight.detach(), None if made.bias is None else made.bias.detach(), made.head.scale, made.head.softcap
    )
    found = head_logprobs(made.hidden, frozen, made.targets, Terms(made.weights if known else None), chunk=5)
    total = (found.values * made.weights).sum() if found.total is None else found.total
    (ours,) = torch.autograd.grad(total, [made.hidden])
    close(ours, made.gradients((made.expected() * made.weights).sum())[0])


def test_without_gradients_only_the_values_are_computed() -> None:
    made = Made()
    with torch.no_grad():
        for terms in (Terms(), Terms(made.weights)):
            found = head_logprobs(made.hidden, made.head, made.targets, terms)
            close(found.values, made.expected().detach())
            assert not found.values.requires_grad


@pytest.mark.parametrize("known", [True, False])
def test_a_weight_that_embeds_too_gets_both_gradients(known: bool) -> None:
    made = Made()
    ids = torch.arange(TOKENS)

    def both(score: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(score(F.embedding(ids, made.weight)), [made.weight])
        return gradient

    def ours(hidden: torch.Tensor) -> torch.Tensor:
        found = head_logprobs(hidden, made.head, made.targets, Terms(torch.ones(TOKENS) if known else None), chunk=5)
        return found.values.sum() if found.total is None else found.total

    close(both(ours), both(lambda h: -F.cross_entropy(h @ made.weight.T, made.targets, reduction="sum")))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_in_bfloat16_only_the_products_are_rounded(autocast: bool, known: bool) -> None:
    made = Made(bias=True, softcap=5.0)
    exact = made.gradients((made.expected() * made.weights).sum())
    if not autocast:
        for name in ("hidden", "weight", "bias"):
            setattr(made, name, getattr(made, name).detach().bfloat16().requires_grad_())
        made.head = Head(made.weight, made.bias, 1.0, 5.0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = head_logprobs(made.hidden, made.head, made.targets, Terms(made.weights if known else None), chunk=5)
        total = (found.values * made.weights).sum() if found.total is None else found.total
    assert total.dtype == torch.float32
    for ours, theirs in zip(made.gradients(total), exact, strict=True):
        assert ours.dtype == (torch.float32 if autocast else torch.bfloat16)
        assert (ours.float() - theirs).norm() < 0.03 * theirs.norm()


def test_the_sum_is_handed_back_once() -> None:
    made = Made()
    total = head_logprobs(made.hidden, made.head, made.targets, Terms(made.weights)).total
    assert total is not None
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward ran twice"):
        total.backward()


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation gives."""

    largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else (result,):
            if isinstance(one, torch.Tensor):
                self.largest = max(self.largest, one.numel())
        return result


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("module", [True, False])
def test_no_tensor_of_tokens_by_vocabulary_is_ever_made(
    known: bool, module: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(head_chunks.CHUNK_BYTES, "cpu", 16 * 5 * VOCAB)  # 20 tokens' logits, or 5 with copies
    made = Made(tokens=200)
    head: Any = made.head
    if module:
        head = OutputHead(Doubling(made.weight))
    with LargestTensor() as seen:
        found = head_logprobs(made.hidden, head, made.targets, Terms(made.weights if known else None))
        (found.values.sum() if found.total is None else found.total).backward()
    assert seen.largest <= max(20 * VOCAB, made.hidden.numel(), made.weight.numel())
    assert 20 * VOCAB < 200 * VOCAB // 4


class Doubling(nn.Linear):
    """A head that is more than its weight: twice the product."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False)
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(hidden)


@pytest.mark.parametrize("chunk", [1, 5, None])
@pytest.mark.parametrize("known", [True, False])
def test_a_head_that_is_no_plain_matrix_is_computed_through_its_module(known: bool, chunk: int | None) -> None:
    made = Made()
    module = Doubling(made.weight)
    assert OutputHead(module).read() is None
    terms = Terms(made.weights if known else None, want_correct=True)
    found = head_logprobs(made.hidden, OutputHead(module, softcap=3.0), made.targets, terms, chunk=chunk)
    logits = torch.tanh(2 * made.hidden @ module.weight.T / 3) * 3
    expected = -F.cross_entropy(logits, made.targets, reduction="none")
    close(found.values.detach(), expected.detach())
    assert found.correct is not None
    assert found.correct.tolist() == (logits.argmax(1) == made.targets).tolist()
    total = (found.values * made.weights).sum() if found.total is None else found.total
    leaves = [made.hidden, module.weight]
    close(torch.autograd.grad(total, leaves), torch.autograd.grad((expected * made.weights).sum(), leaves))


def naive(
    made: Made, factor: Callable[[torch.Tensor], torch.Tensor], strength: float, other: torch.Tensor | None
) -> torch.Tensor:
    """The weighted sum, spelled out over whole logits: ``factor`` of the log-probabilities [N, V]."""
    log_probs = made.logits().log_softmax(1)
    own = log_probs[torch.arange(TOKENS), made.targets]
    each = factor(log_probs).detach() * own
    if other is not None:
        q = other.softmax(1)
        each = each - strength * (q * (q.log() - log_probs)).sum(1)
    return (each * made.weights).sum()


@pytest.mark.parametrize("chunk", [1, 5, None])
@pytest.mark.parametrize("case", CASES)
def test_factors_and_an_anchor_have_the_gradient_of_the_naive_formula(case: str, chunk: int | None) -> None:
    made = Made(**CASES[case])
    other = torch.randn(TOKENS, VOCAB, generator=torch.Generator().manual_seed(5))
    for anchor in (None, Anchor(other, lambda logits: logits, 0.7)):
        terms = Terms(made.weights, lambda logprobs, entropy: logprobs.exp(), anchor)
        found = head_logprobs(made.hidden, made.head, made.targets, terms, chunk=chunk)
        expected = naive(made, lambda lp: lp[torch.arange(TOKENS), made.targets].exp(), 0.7, other if anchor else None)
        assert found.total is not None
        close(found.total, expected)
        close(made.gradients(found.total), made.gradients(expected))
        whole = scores_of_logits(made.logits(), made.targets, terms)
        assert whole.total is not None
        close(made.gradients(whole.total), made.gradients(expected))
        check_same(found, whole)


def check_same(ours: Scores, theirs: Scores) -> None:
    for name in ("values", "factors", "kl"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert (one is None) == (other is None)
        if one is not None:
            close(one, other)


def test_an_anchor_that_is_the_policy_itself_pulls_nowhere() -> None:
    made = Made()
    anchor = Anchor(made.hidden.detach(), lambda h: h @ made.weight.detach().T, 3.0)
    pulled = head_logprobs(made.hidden, made.head, made.targets, Terms(made.weights, anchor=anchor))
    free = head_logprobs(made.hidden, made.head, made.targets, Terms(made.weights))
    assert pulled.kl is not None
    close(pulled.kl, torch.zeros(TOKENS))
    close(made.gradients(pulled.total), made.gradients(free.total))  # type: ignore[arg-type]


@given(st.sampled_from([5, 20, 70, 1280, 1281, 1400, 3000]), st.integers(0, 5))
def test_the_entropy_is_that_of_the_softmax_over_the_twenty_largest_logits(vocab: int, seed: int) -> None:
    logits = 3 * torch.randn(4, vocab, generator=torch.Generator().manual_seed(seed))
    largest = logits.topk(min(20, vocab), dim=1).values
    expected = torch.distributions.Categorical(logits=largest).entropy()
    close(top_entropy(logits.softmax(1)), expected)


def test_a_target_counts_as_met_where_no_token_is_likelier() -> None:
    made = Made()
    made.targets[::2] = made.logits().argmax(1)[::2]
    for terms in (Terms(want_correct=True), Terms(made.weights, want_correct=True)):
        found = head_logprobs(made.hidden, made.head, made.targets, terms)
        assert found.correct is not None
        assert found.correct.tolist() == (made.logits().argmax(1) == made.targets).tolist()


def test_logits_far_apart_keep_their_log_probabilities() -> None:
    hidden, weight = torch.tensor([[200.0]]), torch.tensor([[1.0], [-1.0], [0.0]])
    assert float(head_logprobs(hidden, Head(weight), torch.tensor([1])).values) == -400
