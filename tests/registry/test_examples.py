"""Uncut ids to examples: every truncation by literal lengths, and what holds for all of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.cuts import DROP, IGNORE, LEFT, SPLIT, TRUNCATIONS, TURNS_END, TURNS_START, EncodeRules
from registry.encode import join_feedback
from registry.errors import RowFault
from registry.examples import Example, FeedbackExample, join_answer, join_pair, join_prompt, join_turns, sides_of

EOS = 0
# Ids are letters: "sys|AB" is the system text and a question, each part of its own.
CHAT = ["ssAA", "bbb", "CC", "ddd", "EE", "f"]  # 15 tokens, the first two of them the system text's


def numbers(text: str) -> list[int]:
    return [ord(sign) for sign in text]


def letters(ids: Any) -> str:
    """Ids as letters, "." for a label that is left out, "$" for the end of sequence."""
    return "".join("." if i == IGNORE else "$" if i == EOS else chr(i) for i in ids)


def joined(parts: list[str], *, rules: EncodeRules = EncodeRules(), **options: Any) -> Example | RowFault:
    ids = np.array(numbers("".join(parts)), np.int32)
    return join_turns(ids, [len(part) for part in parts], rules, **options)


def shown(example: Example | RowFault) -> tuple[str, str, int]:
    assert isinstance(example, Example), example
    return letters(example.ids), letters(example.labels), example.num_cut


def cut(truncation: str, cutoff_len: int, parts: list[str] = CHAT, **options: Any) -> Example | RowFault:
    rules = {name: options.pop(name) for name in ("train_on_prompt", "mask_history", "strict") if name in options}
    return joined(parts, rules=EncodeRules(cutoff_len, truncation=truncation, **rules), **options)


# --- sft --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_what_fits_is_whole_whatever_the_truncation(truncation: str) -> None:
    assert shown(cut(truncation, 15, lead=2)) == ("ssAAbbbCCdddEEf", "....bbb..ddd..f", 0)


def test_split_shares_the_room_and_leaves_the_last_turns_out() -> None:
    assert shown(cut(SPLIT, 10)) == ("ssAAbbbCCd", "....bbb..d", 5)
    assert shown(cut(SPLIT, 7)) == ("ssAAbbb", "....bbb", 8)
    assert shown(cut(SPLIT, 10, mask_history=True)) == ("ssCCdddEEf", ".........f", 5)


def test_drop_leaves_the_example_out_and_says_how_long_it_was() -> None:
    fault = cut(DROP, 14)
    assert isinstance(fault, RowFault)
    assert (fault.field, fault.reason) == ("row", "it has 15 tokens, more than cutoff_len 14 (truncation: drop)")


def test_left_keeps_the_end() -> None:
    assert shown(cut(LEFT, 7)) == ("CdddEEf", ".ddd..f", 8)
    assert shown(cut(LEFT, 1)) == ("f", "f", 14)


def test_turns_start_keeps_whole_turns_from_the_start() -> None:
    assert shown(cut(TURNS_START, 14)) == ("ssAAbbbCCddd", "....bbb..ddd", 3)
    assert shown(cut(TURNS_START, 11)) == ("ssAAbbb", "....bbb", 8)


def test_turns_end_keeps_whole_turns_from_the_end_and_the_system_text_before_them() -> None:
    assert shown(cut(TURNS_END, 14, lead=2)) == ("ssCCdddEEf", "....ddd..f", 5)
    assert shown(cut(TURNS_END, 9, lead=2)) == ("ssEEf", "....f", 10)
    assert shown(cut(TURNS_END, 9)) == ("CCdddEEf", "..ddd..f", 7)


@pytest.mark.parametrize("truncation", [TURNS_START, TURNS_END])
def test_where_not_one_turn_fits_the_example_is_left_out(truncation: str) -> None:
    fault = cut(truncation, 2, lead=2)
    assert isinstance(fault, RowFault)
    assert (
        fault.reason
        == f"it has 15 tokens, more than cutoff_len 2, and not one whole turn fits (truncation: {truncation})"
    )


def test_mask_history_never_trains_another_answer_than_the_last() -> None:
    assert shown(cut(TURNS_END, 9, mask_history=True)) == ("CCdddEEf", ".......f", 7)
    fault = cut(TURNS_START, 14, mask_history=True)
    assert isinstance(fault, RowFault)
    assert fault.reason == "no token of the answer is left to train within cutoff_len 14"


def test_where_replies_carry_no_end_each_is_ended_by_the_label_of_the_next_prompt() -> None:
    assert shown(joined(["A", "b", "CC", "d"], eos=EOS)) == ("AbCCd$", ".b$.d$", 0)
    assert shown(joined(["A", "b", "", "d"], eos=EOS)) == ("Abd$", ".bd$", 0)
    assert shown(cut(TURNS_END, 4, ["A", "b", "CC", "d"], eos=EOS)) == ("CCd$", "..d$", 2)
    assert shown(cut(LEFT, 5, ["A", "b", "CC", "d"], eos=EOS)) == ("bCCd$", "b$.d$", 1)


def test_the_end_of_an_answer_that_is_not_trained_is_not_trained_either_but_under_strict() -> None:
    parts = ["A", "b", "CC", "d", "E", "f"]
    assert shown(joined(parts, rules=EncodeRules(mask_history=True), eos=EOS))[1] == "......f$"
    strict = joined(parts, rules=EncodeRules(mask_history=True, strict=True), eos=EOS)
    assert shown(strict)[1] == "$.$...f$"
    assert shown(joined(parts, eos=EOS, weights=[0, 1, 0]))[1] == "....d$.."


def test_an_answer_of_no_weight_is_not_trained_and_others_carry_theirs() -> None:
    plain = joined(["A", "b", "C", "d"], weights=[0, 1])
    assert (shown(plain)[1], plain.weights) == ("...d", None)  # type: ignore[union-attr]
    example = joined(["A", "bb", "C", "d"], weights=[0.5, 1])
    assert isinstance(example, Example)
    assert (shown(example)[1], list(example.weights or ())) == (".bb.d", [1, 0.5, 0.5, 1, 1])
    ended = joined(["A", "b", "CC", "d"], weights=[0.5, 2], eos=EOS)
    assert isinstance(ended, Example)
    assert (shown(ended)[1], list(ended.weights or ())) == (".b$.d$", [1, 0.5, 0.5, 1, 2, 2])


def test_weights_are_cut_as_the_ids_are() -> None:
    left = cut(LEFT, 4, ["AA", "bb", "C", "dd"], weights=[0.5, 2])
    assert (shown(left)[:2], list(left.weights or ())) == (("bCdd", "b.dd"), [0.5, 1, 2, 2])  # type: ignore[union-attr]
    end = cut(TURNS_END, 5, ["sA", "bb", "C", "dd"], weights=[0.5, 2], lead=1)
    assert (shown(end)[:2], list(end.weights or ())) == (("sCdd", "..dd"), [1, 1, 2, 2])  # type: ignore[union-attr]


def test_a_row_that_trains_nothing_is_left_out_and_kept_under_strict() -> None:
    fault = joined(["A", "b"], weights=[0])
    assert isinstance(fault, RowFault)
    assert fault.reason == "no token of it is trained: its answers are empty or count 0 (weight, loss, train)"
    assert shown(cut(SPLIT, 2, ["AA", ""], strict=True)) == ("AA", "..", 0)


PART = st.text("abcdefgh", max_size=6)
CHATS = st.lists(st.tuples(PART, PART), min_size=1, max_size=4).map(
    lambda pairs: [part for pair in pairs for part in pair]
)
RULES = st.builds(
    EncodeRules,
    cutoff_len=st.integers(1, 40), train_on_prompt=st.booleans(), mask_history=st.booleans(), truncation=st.sampled_from(TRUNCATIONS),
)  # fmt: skip


@given(st.data(), CHATS, RULES, st.booleans())
def test_no_truncation_trains_what_is_not_trained_uncut(
    data: Any, parts: list[str], rules: EncodeRules, ended: bool
) -> None:
    """Ids are numbered through, so that each token of the row is known again."""
    sizes = list(map(len, parts))
    ids = np.arange(1, sum(sizes) + 1, dtype=np.int32)
    weights = data.draw(
        st.none() | st.lists(st.sampled_from([0.0, 1.0, 0.5]), min_size=len(parts) // 2, max_size=len(parts) // 2)
    )
    lead = data.draw(st.integers(0, sizes[0]))
    options: dict[str, Any] = {"weights": weights, "lead": lead}
    options["eos"] = EOS if ended and not rules.train_on_prompt else None  # the two never come together
    whole = join_turns(ids, sizes, EncodeRules(10**6, rules.train_on_prompt, rules.mask_history), **options)
    found = join_turns(ids, sizes, rules, **options)
    if isinstance(found, RowFault):
        return
    assert isinstance(whole, Example)
    assert len(found.ids) == len(found.labels) <= rules.cutoff_len
    assert len(found.ids) + found.num_cut == len(whole.ids)
    kept = [i for i in found.ids if i != EOS]
    assert kept == sorted(set(kept)), "in order, each once"
    trained = {i for i, label in zip(whole.ids, whole.labels, strict=True) if label == i}
    assert {i for i, label in zip(found.ids, found.labels, strict=True) if label == i} <= trained | {EOS}
    assert all(label in (i, IGNORE, EOS) for i, label in zip(found.ids, found.labels, strict=True))
    if weights is not None:
        told = dict(zip(whole.ids, whole.weights or [1.0] * len(whole.ids), strict=True))
        mine = found.weights or [1.0] * len(found.ids)
        assert all(
            weight == told[i]
            for i, label, weight in zip(found.ids, found.labels, mine, strict=True)
            if label == i != EOS
        )
    if rules.truncation == LEFT:
        assert list(found.ids) == list(whole.ids)[len(whole.ids) - len(found.ids) :]
        assert list(found.labels) == list(whole.labels)[len(whole.ids) - len(found.ids) :]
    if rules.truncation == DROP:
        assert found == whole
    if rules.truncation in (TURNS_START, TURNS_END):
        ends = [0, *np.cumsum(sizes)[1::2].tolist()]
        held = [set(range(first + 1, last + 1)) for first, last in pairwise(ends)]
        opening = set(range(1, lead + 1)) if rules.truncation == TURNS_END else set()
        assert all(not turn & set(kept) - opening or turn <= set(kept) for turn in held)
        assert opening <= set(kept)


# --- pairs, judged answers, prompts -----------------------------------------------------------------------------------


def sides(example: Any) -> list[tuple[str, str]]:
    assert not isinstance(example, RowFault), example
    return [(letters(side.ids), letters(side.labels)) for side in sides_of(example)]


def pair(parts: tuple[str, str, str], truncation: str = SPLIT, cutoff_len: int = 100, eos: int | None = None) -> Any:
    ids = np.array(numbers("".join(parts)), np.int32)
    return join_pair(ids, [len(part) for part in parts], EncodeRules(cutoff_len, truncation=truncation), eos=eos)


def test_both_answers_of_a_pair_follow_the_same_prompt() -> None:
    assert sides(pair(("AA", "bbb", "c"))) == [("AAbbb", "..bbb"), ("AAc", "..c")]
    assert sides(pair(("AA", "bbb", "c"), eos=EOS)) == [("AAbbb$", "..bbb$"), ("AAc$", "..c$")]


def test_left_takes_from_the_head_of_the_prompt_by_the_longer_answer() -> None:
    assert sides(pair(("ABCD", "efg", "h"), LEFT, 5)) == [("CDefg", "..efg"), ("CDh", "..h")]
    assert sides(pair(("ABCD", "efg", "h"), LEFT, 3)) == [("efg", "efg"), ("h", "h")]
    assert sides(pair(("ABCD", "efg", "h"), LEFT, 2)) == [("ef", "ef"), ("h", "h")]


@pytest.mark.parametrize("truncation", [DROP, TURNS_START, TURNS_END])
def test_a_pair_is_one_turn_and_left_out_where_that_is_too_long(truncation: str) -> None:
    assert isinstance(pair(("ABCD", "efg", "h"), truncation, 6), RowFault)
    assert sides(pair(("ABCD", "efg", "h"), truncation, 7))[0] == ("ABCDefg", "....efg")


@given(st.tuples(PART, PART, PART), st.sampled_from(TRUNCATIONS), st.integers(1, 20))
def test_no_side_of_a_pair_is_above_the_cutoff_and_both_have_one_prompt(
    parts: Any, truncation: str, cutoff_len: int
) -> None:
    found = pair(parts, truncation, cutoff_len)
    if isinstance(found, RowFault):
        return
    prompts = [letters(side.ids)[: list(side.labels).count(IGNORE)] for side in sides_of(found)]
    assert prompts[0] == prompts[1]
    assert max(len(side.ids) for side in sides_of(found)) <= cutoff_len
    assert all(
        len(side.ids) + side.num_cut == len(parts[0] + part)
        for side, part in zip(sides_of(found), parts[1:], strict=True)
    )


def feedback(
    own: tuple[str, str, str], other: tuple[str, str, str], cutoff_len: int = 100, truncation: str = "split"
) -> Any:
    rows = [(np.array(numbers("".join(parts)), np.int32), [len(part) for part in parts]) for parts in (own, other)]
    return join_feedback(*rows, EncodeRules(cutoff_len, truncation=truncation), desirable=False, eos=None)


def test_a_judged_answer_comes_with_its_prompt_before_another_rows_answer() -> None:
    """The thought between the two goes with the answer, and is not trained."""
    found = feedback(("AA", "tt", "bb"), ("XXX", "u", "y"))
    assert sides(found) == [("AAttbb", "....bb"), ("AAuy", "...y")]
    assert isinstance(found, FeedbackExample)
    assert found.desirable is False


def test_feedback_is_left_out_for_its_own_answer_alone_never_for_the_other_rows() -> None:
    assert isinstance(feedback(("AA", "", ""), ("X", "", "y")), RowFault)
    found = feedback(("AA", "", "bb"), ("X", "", ""))
    assert isinstance(found, FeedbackExample)
    assert found.kl.num_trained == 0
    crossed = feedback(("AA", "", "bb"), ("X", "", "y" * 50), 5, "drop")
    assert isinstance(crossed, FeedbackExample)
    assert len(crossed.kl.ids) <= 5


def arrays(*texts: str) -> list[np.ndarray[Any, Any]]:
    return [np.array(numbers(text), np.int32) for text in texts]


def test_a_prompt_and_its_answer_are_of_lengths_of_their_own() -> None:
    example = join_prompt(*arrays("ABCD", "ef"), EncodeRules(100), eos=EOS)
    assert (letters(example.ids), letters(example.labels), example.num_cut) == ("ABCD", "ef$", 0)
    short = join_prompt(*arrays("ABCD", "ef"), EncodeRules(4), eos=None)
    assert (letters(short.ids), letters(short.labels), short.num_cut) == ("ABC", "e", 2)


def test_an_answer_longer_than_the_cutoff_is_cut_and_keeps_no_prompt_from_the_left() -> None:
    found = join_answer(*arrays("AB", "cdef"), EncodeRules(3, truncation=LEFT))
    assert isinstance(found, Example)
    assert (letters(found.ids), found.num_cut) == ("cde", 3)
