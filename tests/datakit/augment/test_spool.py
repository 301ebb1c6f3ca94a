"""Units go in in any order and come out in that of their seeds, with all that was in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.augment.failures import CallFailed, Kind
from datakit.augment.rollout import Made, Seed
from datakit.augment.spool import Spool, Unit, failed_unit
from datakit.values import SURROGATE
from registry.errors import RowFault, StoppedError
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord, TextRecord

HUGE = 10**400
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
names = st.text(max_size=6)  # of files: halves of characters stand for bytes that are no UTF-8
messages = st.builds(Message, st.sampled_from(["user", "assistant", "observation", "function"]), texts)
several = st.lists(messages, max_size=3).map(tuple)
records = (
    st.builds(TextRecord, texts)
    | st.builds(ChatRecord, several, texts, texts)
    | st.builds(PreferenceRecord, several, messages, messages, texts, texts)
    | st.builds(FeedbackRecord, several, st.booleans(), texts, texts)
)
numbers = st.integers(0, 2**40)
plain = st.none() | st.booleans() | texts | st.integers(-HUGE, HUGE) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
small = st.none() | st.booleans() | texts | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False)


@st.composite
def seeds(draw: st.DrawFn, index: int) -> Seed:
    alone = st.builds(Seed, numbers, names, numbers, st.none() | records, st.integers(0, 9))
    pool = tuple(draw(st.lists(alone, max_size=2)))
    record, small = draw(st.none() | records), st.integers(0, 9)
    return Seed(index, draw(names), draw(numbers), record, draw(small), pool, draw(small))


@st.composite
def units(draw: st.DrawFn) -> list[Unit]:
    found: list[Unit] = []
    for index in draw(st.lists(st.integers(0, 12), unique=True, max_size=5)):
        seed = draw(seeds(index))
        rows: list[tuple[dict[str, Any], Made]] = []
        for _ in range(draw(st.integers(0, 3))):
            notes = draw(st.dictionaries(texts, small, max_size=2))
            made = Made(draw(records), (), draw(st.sampled_from([(), (seed,), (seed.pool or (seed,))])), notes)
            rows.append((draw(st.dictionaries(texts, values, max_size=3)), made))
        found.append(
            Unit(seed, tuple(rows), draw(texts), draw(names), draw(texts), draw(texts), draw(names), draw(texts))
        )
    return found


def through(given: Sequence[Unit]) -> list[Unit]:
    with Spool() as spool:
        for unit in given:
            spool.add(unit)
        assert spool.count == len(given)
        assert list(spool.units()) == list(spool.units())
        return list(spool.units())


@given(units())
def test_what_goes_in_comes_out_in_the_order_of_seeds(given):
    assert through(given) == sorted(given, key=lambda unit: unit.seed.index)


def test_a_number_of_hundreds_of_digits_stays_exact():
    seed = Seed(0, "a", 1, None)
    (unit,) = through([Unit(seed, (({"n": HUGE, "in": [{"m": -HUGE}]}, Made(TextRecord("t"), (), (seed,))),))])
    assert unit.rows[0][0] == {"n": HUGE, "in": [{"m": -HUGE}]}


def test_half_a_character_in_a_row_is_replaced_and_counted():
    seed = Seed(0, "a", 1, None)
    with Spool() as spool:
        spool.add(Unit(seed, (({"id": "a\ud800"}, Made(TextRecord("t"), (), (seed,))),)))
        (unit,) = spool.units()
        assert unit.rows[0][0] == {"id": "a\ufffd"}
        assert spool.changes == {SURROGATE: 1}


def test_a_row_that_no_json_can_spell_is_told_and_leaves_nothing_behind():
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"in": deep}
    seed = Seed(0, "a", 1, None)
    with Spool() as spool:
        with pytest.raises(RowFault):
            spool.add(Unit(seed, ((deep, Made(TextRecord("t"), (), (seed,))),)))
        assert list(spool.units()) == []
        spool.add(Unit(seed, reason="too deep"))
        assert [unit.reason for unit in spool.units()] == ["too deep"]
    while deep:
        deep = deep.pop("in")


def test_a_full_disk_stops_the_run_with_what_is_kept():
    seed = Seed(0, "a", 1, None)
    with Spool() as spool:
        spool._file = open("/dev/full", "w+b")  # noqa: PTH123, SIM115
        with pytest.raises(StoppedError, match="there is no room for the rows that were made"):
            spool.add(Unit(seed, reason="x" * 100_000))
        spool._file = open("/dev/null", "rb")  # noqa: PTH123, SIM115


def test_a_unit_failed_where_there_is_a_reason():
    seed = Seed(0, "a", 1, None)
    assert not Unit(seed).failed
    assert Unit(seed, reason="no JSON").failed
    unit = failed_unit(seed, CallFailed(Kind.TIMEOUT, "no answer", code="504"), (), "{}", "r")
    assert unit.failed
    assert (unit.kind, unit.reason, unit.code, unit.raw, unit.recipe) == ("timeout", "no answer", "504", "{}", "r")
