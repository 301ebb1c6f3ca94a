"""How processes exchange numbers and objects, and wait for one of them."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from registry.errors import StoppedError, UsageError
from tests.trainkit.backends.standin import Setup, _group, config_of
from tests.trainkit.backends.two import Pair
from trainkit.backends.process_group import Group
from trainkit.place import Place, place_of

CPU = torch.device("cpu")


def exchanged() -> dict[str, Any]:
    group = _group(config_of(Setup()))
    group.barrier()
    return {
        "sum": float(group.sum(torch.tensor(group.rank + 1.0))),
        "numbers": group.sum_numbers([group.rank, 0.5]),
        "shared": group.share({"from": group.rank}),
        "gathered": group.gather(group.rank * 10),
    }


def test_numbers_and_objects(two: Pair) -> None:
    first, second = two(exchanged)
    assert first == {"sum": 3.0, "numbers": [1.0, 1.0], "shared": {"from": 0}, "gathered": [0, 10]}
    assert second == first | {"gathered": None}


def one_goes_first() -> tuple[float, float]:
    group = _group(config_of(Setup()))
    with group.one_first("preparing"):
        began = time.monotonic()
        if group.rank == 0:
            time.sleep(0.3)
    return began, time.monotonic()


def test_the_others_wait_until_the_first_is_done(two: Pair) -> None:
    (_, first_ended), (second_began, _) = two(one_goes_first)
    assert second_began >= first_ended - 0.02


def first_fails() -> str:
    group = _group(config_of(Setup()))
    try:
        with group.one_first("preparing the data"):
            if group.rank == 0:
                raise ValueError("no such file")
    except (ValueError, StoppedError) as error:
        return str(error)
    return "nothing"


def test_the_others_do_not_wait_for_one_that_failed(two: Pair) -> None:
    assert two(first_fails) == ["no such file", "process 0 failed while preparing the data"]


def test_alone_nothing_is_exchanged() -> None:
    group = Group(Place(), device=CPU)
    value = torch.tensor(2.0)
    with group.one_first("anything"):
        assert group.sum(value) is value
    assert (group.sum_numbers([1, 2]), group.share("x"), group.gather(3)) == ([1.0, 2.0], "x", [3])
    group.close()


def test_place_is_what_torchrun_says() -> None:
    told = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    assert place_of(told) == Place(5, 1, 8, 4)
    assert place_of({}) == Place()


@pytest.mark.parametrize(("rank", "local", "world"), [("9", "1", "8"), ("x", "0", "2"), ("0", "1", "2")])
def test_a_place_that_cannot_be_is_refused(rank: str, local: str, world: str) -> None:
    with pytest.raises(UsageError, match="make no sense"):
        place_of({"RANK": rank, "LOCAL_RANK": local, "WORLD_SIZE": world})
