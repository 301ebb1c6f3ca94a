"""Turns to uncut ids: what is gathered by numbers is what encoding slot by slot gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import RowFault
from registry.fast_tokenizers import is_whole
from registry.render import Turn
from registry.templates import Slot, Token
from registry.uncut import HALF, PARTS, Uncut, encode_plain, encode_rows
from tests.conftest import BYTES, ByteTokenizer

BOS, UNKNOWN = Token(of="bos_token"), Token(text="<unknown>")
FAULT = RowFault("tools", "not JSON")


def ids_of(slot: Slot, tokenizer: ByteTokenizer = BYTES) -> list[int]:
    """One slot by itself."""
    if isinstance(slot, str):
        return tokenizer.encode(slot)
    number = tokenizer.token_id(getattr(tokenizer, slot.of) if slot.of else slot.text or "")
    return [] if number is None else [number]


@dataclass
class Flat(ByteTokenizer):
    """A byte tokenizer that gives ids one after another, as fast ones do, and counts what it is asked for."""

    asked: list[str] = field(default_factory=list)

    def encode_flat(self, texts: Any) -> Any:
        self.asked += texts
        each = self.encode_batch(texts)
        return np.array([i for one in each for i in one], np.int32), np.cumsum([0, *map(len, each)])


SLOTS: st.SearchStrategy[Slot] = st.one_of(
    st.text(max_size=4),  # the empty text and halves of characters too
    st.sampled_from(["", "<|im_start|>user\n", "<|im_end|>", "<|im_", "é", "a\ud800b"]),
    st.sampled_from([BOS, Token(of="eos_token"), Token(text="<|im_start|>"), UNKNOWN]),
)
SIDE = st.lists(SLOTS, max_size=4).map(tuple)
TURN = st.builds(Turn, source=SIDE, target=SIDE, thought=SIDE)
ROWS = st.lists(st.one_of(st.lists(TURN, min_size=2, max_size=3), st.just(FAULT)), max_size=6)


@pytest.mark.parametrize("tokenizer", [BYTES, Flat(), ByteTokenizer(bos_token="")], ids=["lists", "flat", "no bos"])
@pytest.mark.parametrize("kind", PARTS)
@given(rows=ROWS)
def test_the_ids_of_rows_are_those_of_their_slots_one_by_one(kind: str, tokenizer: ByteTokenizer, rows: Any) -> None:
    uncut = encode_rows(rows, kind, tokenizer)
    assert len(uncut.row_ends) == len(uncut.part_ends) == len(rows) + 1
    assert uncut.ids.dtype == uncut.parts.dtype == np.int32
    for number, turns in enumerate(rows):
        ids, lengths = uncut.row(number)
        if turns is FAULT:
            assert (uncut.faults[number], ids.tolist(), lengths) == (FAULT, [], [])
            continue
        parts = PARTS[kind](turns)
        if not all(is_whole(slot) for part in parts for slot in part if isinstance(slot, str)):
            assert (uncut.faults[number], ids.tolist(), sum(lengths)) == (HALF, [], 0)
            continue
        wanted = [[i for slot in part for i in ids_of(slot, tokenizer)] for part in parts]
        assert (ids.tolist(), lengths) == ([i for part in wanted for i in part], list(map(len, wanted)))
        assert number not in uncut.faults


def test_each_way_to_learn_from_a_row_has_its_own_parts() -> None:
    turns = [Turn(("ab",), ("c",), ("tt",)), Turn(("d",), ("efgh",))]
    lengths = {kind: encode_rows([turns], kind, BYTES).row(0)[1] for kind in PARTS}
    assert lengths == {"turns": [4, 1, 1, 4], "answer": [2, 2, 1], "pair": [4, 1, 4]}


def test_a_slot_of_many_rows_is_encoded_once() -> None:
    tokenizer = Flat()
    encode_rows([[Turn(("user: ", "hi"), ("yo", "\n"))] for _ in range(5)], "turns", tokenizer)
    assert sorted(tokenizer.asked) == ["\n", "hi", "user: ", "yo"]


def test_a_token_that_the_tokenizer_lacks_is_no_id() -> None:
    uncut = encode_rows([[Turn((UNKNOWN, "a", BOS, UNKNOWN), ("b",))]], "turns", BYTES)
    assert (uncut.row(0)[0].tolist(), uncut.row(0)[1]) == ([97, 256, 98], [2, 1])


def test_half_a_character_costs_its_own_row_only() -> None:
    uncut = encode_rows(
        [[Turn(("a",), ("b",))], FAULT, [Turn(("a", "\ud800"), ("b",))], [Turn(("a",), ("b",))]], "turns", BYTES
    )
    assert uncut.faults == {1: FAULT, 2: HALF}
    assert [uncut.row(number)[0].tolist() for number in range(4)] == [[97, 98], [], [], [97, 98]]


def test_a_tokenizer_that_fails_over_whole_texts_is_heard() -> None:
    class Failing(ByteTokenizer):
        def encode_batch(self, texts: Any) -> Any:
            raise ValueError("out of order")

    with pytest.raises(ValueError, match="out of order"):
        encode_rows([[Turn(("a",), ("b",))]], "turns", Failing())


@given(st.lists(st.text(max_size=6), max_size=6))
def test_a_text_is_a_row_of_one_part(texts: list[str]) -> None:
    uncut = encode_plain(texts, BYTES)
    wanted = [BYTES.encode(text) if is_whole(text) else [] for text in texts]
    assert [uncut.row(number)[0].tolist() for number in range(len(texts))] == wanted
    assert uncut.parts.tolist() == list(map(len, wanted))
    assert list(uncut.faults) == [number for number, text in enumerate(texts) if not is_whole(text)]


def test_no_rows_are_no_ids() -> None:
    empty: Uncut = encode_rows([], "turns", BYTES)
    assert (empty.ids.tolist(), empty.row_ends.tolist(), empty.part_ends.tolist()) == ([], [0], [0])
