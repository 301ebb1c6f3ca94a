"""Examples: ids with their labels, made of a row's uncut ids by the rules of a run."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from registry.cuts import DROP, IGNORE, LEFT, SPLIT, EncodeRules, cut_turns, split_budget
from registry.errors import RowFault

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence: ``ids`` and, at the same places, ``labels`` (the id itself where trained, else ``IGNORE``).

    ``num_cut`` is how many of the record's tokens the length budget left out. ``weights`` (float32, at the same
    places) is there only where some trained tokens count for more or less than one.
    """

    ids: array[int]
    labels: array[int]
    num_cut: int = 0
    weights: array[float] | None = None

    @property
    def num_trained(self) -> int:
        return len(self.labels) - self.labels.count(IGNORE)


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """The same prompt with the better and the worse answer; both prompts are cut to one length."""

    chosen: Example
    rejected: Example


@dataclass(frozen=True, slots=True)
class FeedbackExample:
    """A judged answer, and the same prompt with another row's answer, from which the KL term is estimated
    (Ethayarajh et al. 2024, "KTO", section 4.1)."""

    own: Example
    kl: Example
    desirable: bool


AnyExample = Example | PreferenceExample | FeedbackExample


def sides_of(example: AnyExample) -> tuple[Example, ...]:
    """The sequences that an example is made of."""
    if isinstance(example, Example):
        return (example,)
    return (example.chosen, example.rejected) if isinstance(example, PreferenceExample) else (example.own, example.kl)


def no_trained_token(rules: EncodeRules, num_cut: int) -> RowFault:
    """Why an example without a trained token is left out (LLaMA-Factory trains on it; so does ``strict``)."""
    if not num_cut:
        return RowFault("answer", "no token of it is trained: its answers are empty or count 0 (weight, loss, train)")
    return RowFault("answer", f"no token of the answer is left to train within cutoff_len {rules.cutoff_len}")


def too_long(num_tokens: int, rules: EncodeRules) -> RowFault:
    """Why an example is left out by a ``truncation`` that cuts nothing inside a turn."""
    what = "" if rules.truncation == DROP else ", and not one whole turn fits"
    reason = f"it has {num_tokens} tokens, more than cutoff_len {rules.cutoff_len}{what}"
    return RowFault("row", f"{reason} (truncation: {rules.truncation})")


def join_turns(
    ids: np.ndarray[Any, Any],
    parts: Sequence[int],
    rules: EncodeRules,
    *,
    eos: int | None = None,
    weights: Sequence[float] | None = None,
    lead: int = 0,
) -> Example | RowFault:
    """sft: a conversation's uncut ``ids`` (int32) as one example under the length budget.

    ``parts`` are the lengths of its sources and targets in turn, ``weights`` what each target counts, ``lead`` how
    many tokens open the conversation before its first message. ``eos`` is set where replies carry no end marker of
    their own (``efficient_eos``): one ends the example, and the first token of each later prompt is labelled with it.
    """
    import numpy as np

    lengths = list(zip(parts[::2], parts[1::2], strict=True))
    num_end = int(eos is not None)
    total = len(ids) + num_end
    cut_up = cut_turns(lengths, rules, num_end=num_end, lead=lead)
    if cut_up is None:
        return too_long(total, rules)
    cuts, opening = cut_up
    starts = [0, *accumulate(map(sum, lengths))]
    pieces = [ids[:opening]] if opening else []
    for cut in cuts:
        start, source_end = starts[cut.turn], starts[cut.turn] + lengths[cut.turn][0]
        pieces += [ids[start : start + cut.num_source], ids[source_end : source_end + cut.num_target]]
    made = np.concatenate(pieces) if pieces else ids[:0]
    labels = np.full(len(made), IGNORE, np.int32)
    counted = np.ones(len(made), np.float32) if weights is not None else None
    # What the answer before counts, 0 where it is not trained; of a conversation without room for any the end is left.
    at, before = opening, 0.0 if cuts or (weights is not None and not any(weights)) else 1.0
    for cut in cuts:
        end = at + cut.num_source
        if rules.train_on_prompt:
            labels[at:end] = made[at:end]
        # Theirs labels it also after answers that mask_history leaves out.
        if eos is not None and cut.num_source and not cut.first and (before or rules.strict):
            labels[at] = eos  # it ends the answer before it
            if counted is not None:
                counted[at] = before
        trained = cut.first or not rules.mask_history
        before = float(trained) if weights is None else trained * weights[cut.turn]
        if before:
            labels[end : end + cut.num_target] = made[end : end + cut.num_target]
            if counted is not None:
                counted[end : end + cut.num_target] = before
        at = end + cut.num_target
    if eos is not None:
        made = np.append(made, np.int32(eos))
        labels = np.append(labels, np.int32(eos if before or rules.strict else IGNORE))
        counted = None if counted is None else np.append(counted, np.float32(before or 1))
    num_cut = total - len(made)
    if len(made) > rules.cutoff_len and rules.truncation == LEFT:
        num_cut = len(made) - rules.cutoff_len
        made, labels = made[-rules.cutoff_len :], labels[-rules.cutoff_len :]
        counted = None if counted is None else counted[-rules.cutoff_len :]
    if counted is not None and (counted == 1).all():
        counted = None
    return checked(_example(made, labels, max(num_cut, 0), counted), rules)


def join_pair(
    ids: np.ndarray[Any, Any], parts: Sequence[int], rules: EncodeRules, *, eos: int | None = None
) -> PreferenceExample | RowFault:
    """rm and dpo: prompt, chosen and rejected (``parts``: three lengths) as two sequences whose prompts are cut to one
    length, by the longer answer (as LLaMA-Factory 0.9.5)."""
    num_prompt, num_chosen, _ = parts
    prompt, answers = ids[:num_prompt], (ids[num_prompt : num_prompt + num_chosen], ids[num_prompt + num_chosen :])
    longest = max(map(len, answers)) + int(eos is not None)
    kept = _room(num_prompt, longest, rules)
    if isinstance(kept, RowFault):
        return kept
    sides = [_answered(prompt, answer, kept, rules, eos) for answer in answers]
    fault = next((side for side in sides if isinstance(side, RowFault)), None)
    return fault or PreferenceExample(*sides)  # type: ignore[arg-type]


def join_answer(
    prompt: np.ndarray[Any, Any], answer: np.ndarray[Any, Any], rules: EncodeRules, *, eos: int | None = None
) -> Example | RowFault:
    """A prompt and its one answer (kto) as a sequence under the length budget (as LLaMA-Factory 0.9.5)."""
    kept = _room(len(prompt), len(answer) + int(eos is not None), rules)
    return kept if isinstance(kept, RowFault) else _answered(prompt, answer, kept, rules, eos)


def join_prompt(
    prompt: np.ndarray[Any, Any], answer: np.ndarray[Any, Any], rules: EncodeRules, *, eos: int | None = None
) -> Example:
    """Prediction: ``ids`` are the prompt and ``labels`` the answer to hold against, each cut (as LLaMA-Factory 0.9.5).
    They are of different lengths."""
    import numpy as np

    answer = answer if eos is None else np.append(answer, np.int32(eos))
    num_prompt, num_answer = split_budget(len(prompt), len(answer), rules.cutoff_len)
    num_cut = len(prompt) + len(answer) - num_prompt - num_answer
    return _example(prompt[:num_prompt], answer[:num_answer], num_cut)


def _room(num_prompt: int, num_answer: int, rules: EncodeRules) -> tuple[int, int] | RowFault:
    """How many tokens of the prompt (negative: from its end) and of the answer are kept."""
    total = num_prompt + num_answer
    if total <= rules.cutoff_len:
        return num_prompt, num_answer
    if rules.truncation == SPLIT:
        return split_budget(num_prompt, num_answer, rules.cutoff_len)
    if rules.truncation == LEFT:
        num_answer = min(num_answer, rules.cutoff_len)
        return -(rules.cutoff_len - num_answer), num_answer
    return too_long(total, rules)


def _answered(
    prompt: np.ndarray[Any, Any],
    answer: np.ndarray[Any, Any],
    kept: tuple[int, int],
    rules: EncodeRules,
    eos: int | None,
) -> Example | RowFault:
    import numpy as np

    answer = answer if eos is None else np.append(answer, np.int32(eos))
    num_prompt, num_answer = kept
    source = prompt[:num_prompt] if num_prompt >= 0 else prompt[num_prompt:]
    target = answer[:num_answer]
    made = np.concatenate([source, target])
    labels = np.concatenate([np.full(len(source), IGNORE, np.int32), target])
    return checked(_example(made, labels, len(prompt) + len(answer) - len(made)), rules)


def checked(example: Example, rules: EncodeRules) -> Example | RowFault:
    """The example, or why it is left out: LLaMA-Factory trains on rows without a trained token; only ``strict`` does."""
    return example if rules.strict or example.num_trained else no_trained_token(rules, example.num_cut)


def _example(
    ids: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    num_cut: int,
    weights: np.ndarray[Any, Any] | None = None,
) -> Example:
    return Example(_ints(ids), _ints(labels), num_cut, None if weights is None else array("f", weights.tobytes()))


def _ints(values: np.ndarray[Any, Any]) -> array[int]:
    made = array("i")
    made.frombytes(values.astype("int32", copy=False).tobytes())
    return made
