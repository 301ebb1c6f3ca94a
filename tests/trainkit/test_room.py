"""Out of memory: a step is cut smaller until it fits, with every row in it once, and remembered."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import StoppedError
from trainkit.room import Room, halved, is_out_of_memory

FULL = torch.OutOfMemoryError("CUDA out of memory")


def room(*, alone: bool = True) -> Room:
    return Room(alone=alone, advice=lambda: ["cutoff_len: 512 saves 1.5 GB", "quantization_bit: 4 saves 3 GB"])


def fits(most: int, seen: list[Any]) -> Any:
    """An attempt for which micro-batches of up to ``most`` examples have room."""

    def attempt(cut: list[list[int]]) -> list[list[int]]:
        seen.append(cut)
        if max(map(len, cut)) > most:
            raise FULL
        return cut

    return attempt


def test_what_fits_is_left_as_it_is() -> None:
    undone: list[int] = []
    assert room().take([[1, 2], [3]], fits(2, []), lambda: undone.append(1)) == [[1, 2], [3]]
    assert undone == []


def test_what_does_not_fit_is_halved_until_it_does_and_each_attempt_undone() -> None:
    undone: list[int] = []
    here = room()
    found = here.take([[1, 2, 3, 4], [5, 6, 7]], fits(1, []), lambda: undone.append(1))
    assert found == [[1], [2], [3], [4], [5], [6], [7]]
    assert (len(undone), here.parts) == (2, 4)


def test_the_next_step_is_cut_from_the_start() -> None:
    here, seen = room(), []
    here.take([[1, 2]], fits(1, []), lambda: None)
    here.take([[3, 4]], fits(1, seen), lambda: None)
    assert seen == [[[3], [4]]]


def test_where_nothing_helps_the_ways_out_are_told() -> None:
    with pytest.raises(StoppedError, match="even with one example at a time") as told:
        room().take([[1, 2]], fits(0, []), lambda: None)
    assert "cutoff_len: 512 saves 1.5 GB" in str(told.value)


def test_one_of_several_processes_cannot_cut_a_step_alone() -> None:
    with pytest.raises(StoppedError, match="several processes"):
        room(alone=False).take([[1, 2]], fits(1, []), lambda: None)


def test_any_other_error_is_passed_on() -> None:
    def attempt(cut: Any) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        room().take([[1]], attempt, lambda: None)


def test_what_running_out_of_memory_looks_like() -> None:
    on_cpu = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
    assert all(map(is_out_of_memory, (FULL, MemoryError(), on_cpu)))
    assert not is_out_of_memory(RuntimeError("other"))
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(real.value)


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=9), max_size=4), st.sampled_from([1, 2, 4, 8]))
def test_cutting_keeps_every_example_in_its_order(micro: list[list[int]], parts: int) -> None:
    cut = halved(micro, parts)
    assert [n for one in cut for n in one] == [n for one in micro for n in one]
    assert all(len(one) > 0 for one in cut)
