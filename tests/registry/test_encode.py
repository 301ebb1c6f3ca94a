"""Records to ids and labels in one walk: what is trained, what is masked, and what is cut away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.encode import (
    IGNORE,
    Encoder,
    EncodeRules,
    Example,
    PreferenceExample,
    plan_cuts,
    split_budget,
)
from registry.errors import RowFault
from registry.records import ChatRecord, FeedbackRecord
from registry.render import SlotRenderer, turns_of
from registry.templates import Template, Token, load_template, template_names
from tests.conftest import BYTES, ByteTokenizer, chat, preference, spelled, trained_text, whole_text

CHATML = SlotRenderer(load_template("chatml"))
EMPTY = SlotRenderer(load_template("empty"))
CONTENT = ("{{content}}",)
# Answers carry no end marker; one <eos> stands between turns and one at the very end.
LEAN = SlotRenderer(
    Template("lean", ("U{{content}}A",), CONTENT, CONTENT, CONTENT, CONTENT, stop_words=("<eos>",), efficient_eos=True)
)


def encode(record, renderer=CHATML, **rules):
    (example,) = Encoder(BYTES, renderer, EncodeRules(**rules)).chats([record])
    assert isinstance(example, Example), example
    return example


def encode_pair(record, renderer=EMPTY, **rules):
    (pair,) = Encoder(BYTES, renderer, EncodeRules(**rules)).preferences([record])
    assert isinstance(pair, PreferenceExample), pair
    return pair


# --- what is trained --------------------------------------------------------------------------------------------------


def test_only_assistant_text_and_its_end_marker_are_trained():
    example = encode(chat("hi", "yo"))
    assert trained_text(example) == "yo<|im_end|>\n"
    assert whole_text(example) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
    assert example.num_trained == 4


def test_every_answer_of_a_conversation_is_trained():
    assert trained_text(encode(chat("a", "b", "c", "d", system="s"))) == "b<|im_end|>\nd<|im_end|>\n"


def test_mask_history_trains_the_last_answer_only():
    example = encode(chat("a", "b", "c", "d"), mask_history=True)
    assert trained_text(example) == "d<|im_end|>\n"
    assert whole_text(example) == whole_text(encode(chat("a", "b", "c", "d")))


def test_train_on_prompt_trains_everything():
    example = encode(chat("a", "b", "c", "d", system="s"), train_on_prompt=True)
    assert example.labels == example.ids


def test_efficient_eos_ends_each_answer_by_the_label_of_the_next_prompts_first_token():
    example = encode(chat("q", "r", "s", "t"), LEAN)
    assert whole_text(example) == "UqArUsAt<eos>"
    labels = ["-" if label == IGNORE else BYTES.decode([label]) for label in example.labels]
    assert labels == ["-", "-", "-", "r", "<eos>", "-", "-", "t", "<eos>"]


def test_efficient_eos_takes_one_token_of_the_budget_and_stays_after_a_cut():
    assert whole_text(encode(chat("q", "0123456789"), LEAN, cutoff_len=8)) == "UqA0123<eos>"


def test_each_slot_is_encoded_by_itself():
    """A tokenizer that would merge across slots must not get the chance: ids are those of LLaMA-Factory."""

    class Merging(ByteTokenizer):
        def encode(self, text):
            return [999] if text == "ab" else super().encode(text)

    (joined,) = Encoder(Merging(), EMPTY, EncodeRules()).chats([chat("a", "b")])
    (apart,) = Encoder(Merging(), EMPTY, EncodeRules()).chats([chat("", "ab")])
    assert list(joined.ids) == [97, 98]  # type: ignore[union-attr]
    assert list(apart.ids) == [999]  # type: ignore[union-attr]


def test_named_tokens_are_one_id_and_missing_ones_none():
    slots = (Token(of="bos_token"), Token(text="<|im_start|>"), Token(text="<unknown>"), "{{content}}")
    renderer = SlotRenderer(Template("mine", slots, CONTENT, CONTENT, CONTENT, CONTENT))
    assert whole_text(encode(chat("a", "b"), renderer)) == "<bos><|im_start|>ab"
    without_bos = ByteTokenizer(bos_token="")
    (example,) = Encoder(without_bos, renderer, EncodeRules()).chats([chat("a", "b")])
    assert whole_text(example) == "<|im_start|>ab"  # type: ignore[arg-type]


def test_a_row_that_cannot_be_spelled_is_a_fault_and_the_others_keep_their_place():
    tools = ChatRecord(chat("a", "b").messages, tools="[")
    first, second, third = Encoder(BYTES, CHATML, EncodeRules()).chats([chat("a", "b"), tools, chat("c", "d")])
    assert isinstance(second, RowFault)
    assert [trained_text(e)[0] for e in (first, third)] == ["b", "d"]  # type: ignore[arg-type]


# --- what is cut ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_source", "num_target", "budget", "kept"),
    [
        (3000, 2000, 1000, (600, 400)),
        (2000, 3000, 1000, (400, 600)),
        (1000, 100, 1000, (900, 100)),
        (100, 1000, 1000, (100, 900)),
        (499, 2000, 1000, (499, 501)),
        (500, 2000, 1000, (200, 800)),
        (700, 500, 1000, (584, 416)),
        (10, 5, 10, (7, 3)),
        (2, 2, 1, (1, 0)),
    ],
)
def test_the_budget_is_split_as_llamafactory_does(num_source, num_target, budget, kept):
    """Source: shared/reference/llamafactory.md 4.2, all rows of the table."""
    assert split_budget(num_source, num_target, budget) == kept


def test_the_quotient_of_the_split_is_formed_before_the_product():
    """22 * 30 / 44 is 15, but 30 / 44 rounds down in binary, and its product with 22 falls short of it."""
    assert split_budget(14, 30, 22) == (8, 14)


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 5000))
def test_a_split_keeps_no_more_than_there_is_nor_than_the_budget(num_source, num_target, budget):
    kept_source, kept_target = split_budget(num_source, num_target, budget)
    assert 0 <= kept_source <= num_source
    assert 0 <= kept_target <= num_target
    assert kept_source + kept_target <= budget
    if num_source + num_target <= budget:
        assert (kept_source, kept_target) == (num_source, num_target)


LENGTHS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=8)


@given(LENGTHS, st.integers(1, 100), st.booleans(), st.booleans())
def test_cuts_never_exceed_the_cutoff_and_name_each_turn_at_most_once(lengths, cutoff_len, mask_history, efficient_eos):
    cuts = plan_cuts(lengths, EncodeRules(cutoff_len, mask_history=mask_history), efficient_eos=efficient_eos)
    assert sum(cut.num_source + cut.num_target for cut in cuts) + efficient_eos <= max(cutoff_len, 1)
    order = range(len(lengths))
    assert [cut.turn for cut in cuts] == list(reversed(order) if mask_history else order)[: len(cuts)]
    assert [cut.first for cut in cuts] == [i == 0 for i in range(len(cuts))]


def test_early_turns_have_priority_and_with_mask_history_the_last_ones():
    lengths = [(4, 4), (4, 4), (4, 4)]
    kept = [(cut.turn, cut.num_source, cut.num_target) for cut in plan_cuts(lengths, EncodeRules(12))]
    assert kept == [(0, 4, 4), (1, 2, 2)]
    kept = [(c.turn, c.num_source, c.num_target) for c in plan_cuts(lengths, EncodeRules(12, mask_history=True))]
    assert kept == [(2, 4, 4), (1, 2, 2)]


def test_prompt_and_answer_keep_their_heads():
    example = encode(chat("0123456789", "abcdefghij"), EMPTY, cutoff_len=10)
    assert (whole_text(example), trained_text(example)) == ("01234abcde", "abcde")


def test_turns_past_the_budget_are_left_out_whole():
    assert whole_text(encode(chat("ab", "cd", "ef", "gh"), EMPTY, cutoff_len=4)) == "abcd"
    last = encode(chat("ab", "cd", "ef", "gh"), EMPTY, cutoff_len=4, mask_history=True)
    assert (whole_text(last), trained_text(last)) == ("efgh", "gh")


def test_a_row_of_which_no_answer_is_left_is_rejected_and_under_strict_kept():
    record = chat("ab", "cd")
    (fault,) = Encoder(BYTES, EMPTY, EncodeRules(cutoff_len=1)).chats([record])
    assert isinstance(fault, RowFault)
    assert (fault.field, fault.reason) == ("answer", "no token of the answer is left to train within cutoff_len 1")
    example = encode(record, EMPTY, cutoff_len=1, strict=True)
    assert (whole_text(example), trained_text(example)) == ("a", "")


# --- preference pairs -------------------------------------------------------------------------------------------------


def test_both_answers_share_one_prompt_length_cut_by_the_longer_answer():
    """s = 12, t = max(4, 12), c = 12: half and half by the proportional rule, so 6 of the prompt for both."""
    pair = encode_pair(preference("p" * 12, chosen="good", rejected="b" * 12), cutoff_len=12)
    assert whole_text(pair.chosen) == "ppppppgood"
    assert whole_text(pair.rejected) == "ppppppbbbbbb"
    assert (trained_text(pair.chosen), trained_text(pair.rejected)) == ("good", "bbbbbb")


def test_the_conversation_before_a_pair_is_not_trained():
    pair = encode_pair(preference("a", "b", "c", chosen="yes", rejected="no", system="s"), CHATML)
    assert trained_text(pair.chosen) == "yes<|im_end|>\n"
    assert trained_text(pair.rejected) == "no<|im_end|>\n"


def test_efficient_eos_ends_both_answers():
    pair = encode_pair(preference("q", chosen="r", rejected="s"), LEAN)
    assert (trained_text(pair.chosen), trained_text(pair.rejected)) == ("r<eos>", "s<eos>")


def test_a_pair_of_which_one_answer_is_gone_is_rejected_and_under_strict_kept():
    record = preference("ppp", chosen="", rejected="bbb")
    (fault,) = Encoder(BYTES, EMPTY, EncodeRules()).preferences([record])
    assert isinstance(fault, RowFault)
    pair = encode_pair(record, strict=True)
    assert (whole_text(pair.chosen), whole_text(pair.rejected)) == ("ppp", "pppbbb")


# --- properties -------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CHATS = st.builds(
    lambda pairs, system: chat(*(text for pair in pairs for text in pair), system=system),
    st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3),
    TEXT,
)


@given(CHATS, st.sampled_from([*template_names(), "lean"]), st.integers(1, 60), st.booleans(), st.booleans())
def test_a_label_is_its_id_or_ignored_and_no_example_is_longer_than_the_cutoff(record, name, cutoff, whole, last):
    renderer = LEAN if name == "lean" else SlotRenderer(load_template(name))
    rules = {"train_on_prompt": whole, "mask_history": last and not whole}
    example = encode(record, renderer, cutoff_len=cutoff, strict=True, **rules)
    assert len(example.ids) == len(example.labels) <= cutoff
    eos = BYTES.eos_id if renderer.efficient_eos else None
    assert all(label in (token, IGNORE, eos) for token, label in zip(example.ids, example.labels, strict=True))


@given(CHATS, st.sampled_from(template_names()))
def test_decoding_an_uncut_example_gives_the_rendered_text(record, name):
    renderer = SlotRenderer(load_template(name))
    end = BYTES.eos_token if renderer.efficient_eos else ""
    slots = [slot for turn in turns_of(record, renderer) for slot in (*turn.asked, *turn.target)]
    if not any(isinstance(slot, Token) and slot.text for slot in slots):  # the byte tokenizer knows no such tokens
        text = spelled(turns_of(record, renderer)) + end
        assert whole_text(encode(record, renderer, cutoff_len=10**6, strict=True)) == text


@given(st.lists(CHATS, max_size=4))
def test_encoding_many_is_encoding_each(records):
    encoder = Encoder(BYTES, CHATML, EncodeRules(cutoff_len=50, strict=True))
    assert encoder.chats(records) == [encoder.chats([record])[0] for record in records]


def lengths_of(records, renderer, tokenizer=BYTES):
    encoder = Encoder(tokenizer, renderer, EncodeRules())
    (found,) = encoder.lengths([encoder.walked(records)])
    return found


@given(CHATS)
def test_lengths_are_those_of_the_uncut_turns(record):
    found = lengths_of([record], CHATML)
    example = encode(record, cutoff_len=10**6)
    assert found.num_turns == [len(record.messages) // 2]
    assert sum(found.sources) + sum(found.targets) == len(example.ids)
    assert sum(found.targets) == example.num_trained


def test_lengths_of_a_pair_are_those_of_both_answers():
    found = lengths_of([preference("pp", chosen="ccc", rejected="r")], EMPTY)
    assert (found.num_turns, found.sources, found.targets) == ([2], [2, 2], [3, 1])


def test_lengths_of_a_judged_answer_take_all_before_it_as_its_prompt():
    record = FeedbackRecord(chat("aa", "b", "cccc", "ddd").messages, desirable=False)
    found = lengths_of([record], EMPTY)
    assert (found.num_turns, found.sources, found.targets) == ([1], [7], [3])


def test_lengths_of_many_batches_come_in_order():
    encoder = Encoder(BYTES, EMPTY, EncodeRules())
    batches = [[chat("q" * n, "a")] for n in range(1, 6)]
    found = list(encoder.lengths(encoder.walked(batch) for batch in batches))
    assert [lengths.sources for lengths in found] == [[1], [2], [3], [4], [5]]


def test_half_a_character_costs_its_own_row_only():
    half = chat("a\ud800", "b")
    found = lengths_of([chat("q", "a"), half, chat("qq", "a")], EMPTY)
    assert found.num_turns == [1, 0, 1]
    assert "half a character" in found.faults[1].reason
    examples = Encoder(BYTES, EMPTY, EncodeRules()).chats([chat("q", "a"), half])
    assert isinstance(examples[0], Example)
    assert isinstance(examples[1], RowFault)


# --- what was cut is counted -------------------------------------------------------------------------------------
@given(st.integers(1, 60))
def test_what_an_example_holds_and_what_was_cut_add_up_to_the_record(cutoff_len):
    record = chat("a question", "an answer", "another one", "and its answer")
    whole = encode(record, EMPTY, cutoff_len=10_000, strict=True)
    cut = encode(record, EMPTY, cutoff_len=cutoff_len, strict=True)
    assert (whole.num_cut, len(cut.ids) + cut.num_cut) == (0, len(whole.ids))


def test_both_sides_of_a_cut_pair_count_what_they_lost():
    pair = encode_pair(preference("question", chosen="better", rejected="no"), cutoff_len=8, strict=True)
    assert len(pair.chosen.ids) + pair.chosen.num_cut == len("question") + len("better")
    assert len(pair.rejected.ids) + pair.rejected.num_cut == len("question") + len("no")
