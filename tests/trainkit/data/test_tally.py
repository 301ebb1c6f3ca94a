"""Tokens by role: counting all rows at once gives what the examples themselves give, one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.cuts import TRUNCATIONS, EncodeRules
from registry.encode import IGNORE
from registry.encoded.rows import EncodedRows
from registry.encoded.shard import Extras, write_shard
from registry.examples import sides_of
from registry.texts import TextRules
from registry.uncut import Uncut
from trainkit.data import tally as module
from trainkit.data.makes import Feedback, Pairs, Turns
from trainkit.data.tally import tally
from trainkit.data.text_view import TextView
from trainkit.data.views import Joined, Order, RowView

USER, ASSISTANT, OBSERVATION, FUNCTION = range(4)
STOP, EOS = 900, 999


@dataclass
class Row:
    """A row to be: the ids of its parts, and what is known of them besides."""

    parts: list[list[int]]
    lead: int = 0
    weights: list[float] | None = None
    roles: list[int] | None = None
    desirable: bool | None = None
    fault: bool = field(default=False)


def row(*sizes: int, stop: bool = True, **about: Any) -> Row:
    """Parts of these sizes, each answer (every second part) ending with the stop token."""
    parts = [[7] * size for size in sizes]
    for part in parts[1::2] if stop else ():
        part[-1:] = [STOP] if part else []
    return Row(parts, **about)


@contextmanager
def stored(rows: list[Row]) -> Iterator[EncodedRows]:
    """The rows as the cache holds them, two shards of them where there are several."""
    with tempfile.TemporaryDirectory() as name:
        folder, entries = Path(name), []
        for index, some in enumerate([rows[:1], rows[1:]]):
            lengths = [[len(part) for part in one.parts] for one in some]
            ids = [i for one in some for part in one.parts for i in part]
            uncut = Uncut(
                np.array(ids, np.int32),
                np.cumsum([0, *map(sum, lengths)]),
                np.array([size for one in lengths for size in one], np.int32),
                np.cumsum([0, *map(len, lengths)]),
                {},
            )
            extras = Extras(
                list(range(1, len(some) + 1)), [one.lead for one in some], [one.weights for one in some],
                [one.roles for one in some], [one.desirable for one in some],
            )  # fmt: skip
            made = write_shard(folder / f"0000-{index:06d}.arrow", uncut, extras)
            entries.append({"file": 0, "index": index, **made, "rows": len(some), "faults": 0})
        lines = [*entries, {"complete": True}]
        (folder / "journal.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        yield EncodedRows(folder, ["rows.jsonl"])


def order_of(rows: EncodedRows) -> Order:
    return Order(np.zeros(len(rows), np.int16), np.arange(len(rows)))


def viewed(rows: EncodedRows, make: Any) -> RowView:
    return RowView([rows], order_of(rows), make, ["key"])


def by_role(found: module.Tally) -> dict[str, tuple[int, int]]:
    return {name: (found.tokens.get(name, 0), found.trained.get(name, 0)) for name in found.tokens | found.trained}


def test_each_role_has_its_tokens_and_those_that_are_trained() -> None:
    plain = row(5, 3, 4, 2, lead=2)
    with_tools = row(6, 2, 3, 4, lead=1, roles=[USER, FUNCTION, OBSERVATION, ASSISTANT])
    with stored([plain, with_tools]) as rows:
        found = tally(viewed(rows, Turns(EncodeRules(100), None)), [STOP])
    assert by_role(found) == {
        "system": (3, 0),
        "user": (3 + 4 + 5, 0),
        "assistant": (3 + 2 + 4, 9),
        "function": (2, 2),
        "observation": (3, 0),
    }
    assert (found.ends.answers, found.ends.trained) == (2, 2)


def test_a_cut_takes_the_end_of_the_answer_away() -> None:
    with stored([row(4, 4), row(4, 20), row(4, 3, stop=False)]) as rows:
        found = tally(viewed(rows, Turns(EncodeRules(10), None)), [STOP])
    ends = found.ends
    assert (ends.answers, ends.trained, ends.cut_off, ends.missing, ends.not_trained) == (3, 1, 1, 1, 0)


def test_an_answer_of_weight_0_ends_untrained() -> None:
    with stored([row(4, 4, 4, 4, weights=[1.0, 0.0])]) as rows:
        found = tally(viewed(rows, Turns(EncodeRules(100), None)), [STOP])
    assert (found.ends.not_trained, found.trained["assistant"]) == (1, 4)


def test_what_is_written_behind_every_answer_counts_as_the_end() -> None:
    with stored([row(4, 4, 4, 4, stop=False)]) as rows:
        found = tally(viewed(rows, Turns(EncodeRules(100), EOS)), [EOS])
    assert by_role(found) == {"user": (8, 0), "assistant": (8, 8), "end": (1, 2)}
    assert found.ends.trained == 1


def test_of_a_pair_the_prompt_counts_on_both_sides() -> None:
    pair = Row([[7] * 5, [7, 7, STOP], [7, STOP]], lead=2)
    with stored([pair]) as rows:
        found = tally(viewed(rows, Pairs(EncodeRules(100), None)), [STOP])
    assert by_role(found) == {"system": (4, 0), "prompt": (6, 0), "chosen": (3, 3), "rejected": (2, 2)}
    assert (found.ends.answers, found.ends.trained) == (2, 2)


def test_of_a_pair_each_answer_ends_for_itself() -> None:
    """Of 12 tokens the prompt and the longer answer share 10; only the longer one loses its end."""
    pair = Row([[7] * 3, [7, 7, STOP], [7] * 8 + [STOP]])
    with stored([pair]) as rows:
        ends = tally(viewed(rows, Pairs(EncodeRules(10), None)), [STOP]).ends
    assert (ends.trained, ends.cut_off) == (1, 1)


def test_feedback_has_its_own_tokens_and_those_of_its_kl_rows() -> None:
    judged = [Row([[7] * n, [], [7] * n + [STOP]], desirable=True) for n in (3, 5)]
    with stored(judged) as rows:
        found = tally(viewed(rows, Feedback(EncodeRules(100), None)), [STOP])
    assert by_role(found) == {"prompt": (8, 0), "answer": (10, 10), "kl": (18, 10)}


@pytest.mark.parametrize(("blocks", "cut_off"), [(True, 0), (False, 1)])
def test_of_text_every_token_is_trained(blocks: bool, cut_off: int) -> None:
    with stored([Row([[7, 7, 7, STOP]]), Row([[7, 7, 7, 7, 7, STOP]])]) as rows:
        rules = TextRules(cutoff_len=5, blocks=blocks, window=None, bos_id=None, strict=False)
        view = TextView([rows], order_of(rows), rules, ["key"], masked=None)
        found = tally(view, [STOP])
    assert by_role(found) == {"text": (10 if blocks else 9, 10 if blocks else 9)}
    assert (found.ends.cut_off, found.ends.trained) == (cut_off, 2 - cut_off)


def test_nothing_comes_of_no_rows() -> None:
    found = tally(Joined([]), [STOP])
    assert (found.num_tokens, found.num_trained, found.ends.answers) == (0, 0, 0)


sizes = st.integers(0, 12)


@st.composite
def conversations(draw: st.DrawFn) -> Row:
    num_turns = draw(st.integers(1, 3))
    made = row(*draw(st.lists(sizes, min_size=2 * num_turns, max_size=2 * num_turns)), stop=draw(st.booleans()))
    made.lead = draw(st.integers(0, len(made.parts[0])))
    made.weights = draw(st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=num_turns, max_size=num_turns))
    turn = st.tuples(st.sampled_from([USER, OBSERVATION]), st.sampled_from([ASSISTANT, FUNCTION]))
    turns = draw(st.none() | st.lists(turn, min_size=num_turns, max_size=num_turns))
    made.roles = None if turns is None else [role for pair in turns for role in pair]
    return made


@st.composite
def triples(draw: st.DrawFn) -> Row:
    made = Row([[7] * size for size in draw(st.tuples(sizes, sizes, sizes))], desirable=draw(st.booleans()))
    made.lead = draw(st.integers(0, len(made.parts[0])))
    return made


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Row], Any]:
    kind = draw(st.sampled_from([Turns, Pairs, Feedback]))
    rows = draw(st.lists(conversations() if kind is Turns else triples(), min_size=1, max_size=5))
    masks = draw(st.sampled_from([{}, {"train_on_prompt": True}, {"mask_history": True}])) if kind is Turns else {}
    rules = EncodeRules(
        draw(st.integers(1, 60)), strict=draw(st.booleans()), truncation=draw(st.sampled_from(TRUNCATIONS)), **masks
    )
    return rows, kind(rules, draw(st.sampled_from([None, EOS])))


@given(cases())
def test_counted_at_once_or_one_by_one_it_is_what_the_examples_hold(case: tuple[list[Row], Any]) -> None:
    rows, make = case
    with stored(rows) as held, pytest.MonkeyPatch.context() as patch:
        view = viewed(held, make)
        found = tally(view, [STOP])
        sides = [side for number in range(len(view)) for side in sides_of(view[number])]
        assert found.num_tokens == sum(len(side.ids) for side in sides)
        assert found.num_trained == sum(label != IGNORE for side in sides for label in side.labels)
        patch.setattr(module._Marked, "whole", lambda self: np.zeros(len(self.view), np.bool_))
        assert tally(view, [STOP]) == found
