"""Lengths in columns are what the encoder makes of each row, at any cutoff."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.stats import lengths as module
from datakit.stats.cutoff import at_cutoff, in_blocks
from datakit.stats.lengths import Lengths, split_columns, totals
from registry.encode import Encoder, EncodeRules, split_budget
from registry.errors import RowFault
from registry.records import FeedbackRecord, TextRecord
from registry.texts import TextRules, encode_texts
from tests.conftest import BYTES, chat, preference
from tests.datakit.stats.conftest import measured, renderer_of

TEXT = st.text(max_size=30)
CHATS = st.lists(
    st.integers(1, 3).flatmap(lambda n: st.lists(TEXT, min_size=2 * n, max_size=2 * n)), min_size=1, max_size=10
)
PAIRS = st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=10)


@given(CHATS, st.integers(1, 120), st.sampled_from(["chatml", "default", "empty", "llama2", "llama3", "ends once"]))
def test_what_a_cutoff_costs_is_what_the_encoder_really_leaves_out(rows, cutoff, template):
    def encoded(cutoff_len, some):
        return Encoder(BYTES, renderer_of(template), EncodeRules(cutoff_len)).chats(some)

    records = [chat(*row) for row in rows]
    trainable = [r for r, e in zip(records, encoded(10**6, records), strict=True) if not isinstance(e, RowFault)]
    whole = encoded(10**6, trainable)
    lengths = measured(records, template=template).lengths
    assert (totals(lengths).num_tokens, totals(lengths).num_trained) == (
        sum(len(e.ids) for e in whole),
        sum(e.num_trained for e in whole),
    )
    assert lengths.rows().tolist() == [len(e.ids) for e in whole]
    if not trainable:
        return
    cut = encoded(cutoff, trainable)
    kept = [e for e in cut if not isinstance(e, RowFault)]
    found = at_cutoff(lengths, cutoff)
    assert found.tokens_lost == sum(len(e.ids) for e in whole) - sum(len(e.ids) for e in kept)
    assert found.trained_tokens_lost == sum(e.num_trained for e in whole) - sum(e.num_trained for e in kept)
    assert found.rows_lost == len(cut) - len(kept)
    assert found.rows_truncated == sum(
        isinstance(c, RowFault) or len(c.ids) < len(w.ids) for c, w in zip(cut, whole, strict=True)
    )


@given(PAIRS, st.integers(1, 120), st.sampled_from(["chatml", "llama3", "empty", "ends once"]))
def test_preferences_are_measured_as_the_encoder_cuts_them(rows, cutoff, template):
    records = [preference(p, chosen=a, rejected=b) for p, a, b in rows]

    def encoded(cutoff_len, some):
        return Encoder(BYTES, renderer_of(template), EncodeRules(cutoff_len)).preferences(some)

    trainable = [r for r, e in zip(records, encoded(10**6, records), strict=True) if not isinstance(e, RowFault)]
    lengths = measured(records, template=template, stage="dpo").lengths
    assert len(lengths) == len(trainable)
    pairs = encoded(10**6, trainable)
    longer = [max(len(pair.chosen.ids), len(pair.rejected.ids)) for pair in pairs]
    assert lengths.rows().tolist() == longer
    whole = [side for e in pairs for side in (e.chosen, e.rejected)]
    kept = [side for e in encoded(cutoff, trainable) if not isinstance(e, RowFault) for side in (e.chosen, e.rejected)]
    found = at_cutoff(lengths, cutoff)
    assert found.rows_truncated == sum(length > cutoff for length in longer)
    assert found.tokens_lost == sum(len(s.ids) for s in whole) - sum(len(s.ids) for s in kept)
    assert found.trained_tokens_lost == sum(s.num_trained for s in whole) - sum(s.num_trained for s in kept)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=10), st.integers(1, 80), st.sampled_from(["chatml", "ends once"]))  # fmt: skip
def test_a_judged_answer_is_cut_as_a_preference_with_that_answer_twice(rows, cutoff, template):
    judged = [FeedbackRecord(chat(q, a).messages, desirable=True) for q, a in rows]
    twice = [preference(q, chosen=a, rejected=a) for q, a in rows]
    one = at_cutoff(measured(judged, template=template, stage="kto").lengths, cutoff)
    two = at_cutoff(measured(twice, template=template, stage="dpo").lengths, cutoff)
    assert (one.rows_truncated, one.rows_lost) == (two.rows_truncated, two.rows_lost)
    assert (2 * one.tokens_lost, 2 * one.trained_tokens_lost) == (two.tokens_lost, two.trained_tokens_lost)


@given(st.lists(TEXT, min_size=1, max_size=20), st.integers(2, 50), st.booleans())
def test_blocks_of_text_and_what_is_dropped_are_those_of_pre_training(texts, cutoff, bos):
    rules = TextRules(cutoff_len=cutoff, bos_id=BYTES.bos_id if bos else None)
    made = list(encode_texts([texts], BYTES, rules))
    lengths = measured([TextRecord(t) for t in texts], stage="pt").lengths
    found = in_blocks(totals(lengths).num_tokens, cutoff, opens_with_bos=bos)
    assert found.blocks == sum(not isinstance(m, int) for m in made)
    assert found.tokens_lost == sum(m for m in made if isinstance(m, int))


@pytest.mark.parametrize("cutoff", range(1, 12))
def test_a_later_turns_first_place_is_trained_where_it_ends_the_answer_before_it(cutoff):
    records = [chat("aa", "b", "c", "dd", "e", "f"), chat("", "b", "", "d")]
    cut = Encoder(BYTES, renderer_of("ends once"), EncodeRules(cutoff)).chats(records)
    (chunk,) = measured(records, template="ends once").lengths.chunks()
    kept = chunk.kept(cutoff)
    assert kept.sequences[0].tolist() == [len(e.ids) for e in cut]
    assert kept.trained.tolist() == [e.num_trained for e in cut]


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 6000))
def test_splitting_columns_is_splitting_each_row(source, target, budget):
    found = split_columns(np.array([source]), np.array([target]), np.array([budget]))
    assert tuple(int(column[0]) for column in found) == split_budget(source, target, budget)


def test_splitting_columns_is_splitting_each_row_at_every_small_length():
    every = [(s, t, b) for s in range(14) for t in range(14) for b in range(1, 30)]
    sources, targets, budgets = map(np.array, zip(*every, strict=True))
    found = zip(*(column.tolist() for column in split_columns(sources, targets, budgets)), strict=True)
    assert list(found) == [split_budget(*each) for each in every]


@given(CHATS, st.integers(1, 5), st.integers(1, 60))
def test_rows_in_several_chunks_are_the_same_rows(rows, size, cutoff):
    lengths = measured([chat(*row) for row in rows]).lengths
    before = lengths.rows().tolist(), totals(lengths), at_cutoff(lengths, cutoff)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_ROWS", size)
        assert (lengths.rows().tolist(), totals(lengths), at_cutoff(lengths, cutoff)) == before


def test_a_row_counts_its_prompt_and_its_answer_with_all_markers():
    lengths = measured([chat("hi", "yo")]).lengths
    # <|im_start|> and <|im_end|> are one id each
    assert list(lengths.turns()) == [[(1 + 7 + 1 + 1 + 1 + 10, 2 + 1 + 1)]]


def test_parts_hold_the_rows_that_came_under_their_name():
    lengths = Lengths("chat")
    lengths.begin("a")
    lengths.add([(1, 1)])
    lengths.begin("a")
    lengths.add([(1, 2), (3, 4)])
    lengths.begin("b")
    lengths.add([(0, 9)])
    assert [(part.name, lengths.rows(part).tolist()) for part in lengths.parts] == [("a", [2, 10]), ("b", [9])]
    assert totals(lengths, lengths.parts[1]).num_tokens == 9


def test_memory_is_twelve_bytes_a_row_of_question_and_answer():
    lengths = Lengths("chat")
    for _ in range(1000):
        lengths.add([(1, 1)])
    held = sum(len(a) * a.itemsize for a in (lengths.num_turns, lengths.sources, lengths.targets))
    assert held == 12_000
