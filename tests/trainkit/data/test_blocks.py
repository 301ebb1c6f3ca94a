"""Which examples of a packed run share a block: afresh each epoch, or, under strict, once within the map batches."""

from __future__ import annotations

from typing import Any

import pytest

from registry.cuts import EncodeRules
from tests.trainkit.data.test_tally import Row, row, stored, viewed
from trainkit.config import load_config
from trainkit.data.blocks import blocks_in_order, fixed_blocks, is_packed
from trainkit.data.makes import Turns
from trainkit.data.views import Order
from trainkit.data.windows import map_windows


def config(**keys: Any) -> Any:
    return load_config({"model_name_or_path": "m", "dataset": "rows", "do_train": True, "use_cpu": True, **keys})


@pytest.mark.parametrize(
    ("keys", "packed"),
    [
        ({"stage": "sft"}, False),
        ({"stage": "sft", "packing": True}, True),
        ({"stage": "sft", "neat_packing": True}, True),
        ({"stage": "sft", "packing": False}, False),
        ({"stage": "pt"}, False),
        ({"stage": "pt", "packing": True}, False),
        ({"stage": "dpo", "packing": True}, False),
    ],
)
def test_only_conversations_are_packed_and_only_when_asked(keys: dict[str, Any], packed: bool) -> None:
    assert is_packed(config(**keys)) is packed


def test_by_default_no_block_is_fixed_and_in_file_order_the_best_fit_is_taken() -> None:
    with stored([row(4, 3), row(1, 2), row(1, 3), row(2, 4)]) as rows:
        view = viewed(rows, Turns(EncodeRules(10), None))
        asked = config(packing=True, cutoff_len=10)
        assert fixed_blocks(asked, view) is None
        assert blocks_in_order(asked, view) == [[0, 1], [2, 3]]
        assert fixed_blocks(config(compat="strict"), view) is None


def test_under_strict_a_block_is_one_shorter_and_keeps_within_the_map_batch_of_its_rows() -> None:
    """Six rows of lengths 6, -, 4, 2, 3, 5, the second of them none; batches of three rows; room for 9 tokens.

    The first batch has 6 and 4 (no room for both), the second 5 and 3 (2 is left over).
    """
    empty = Row([[], []])
    with stored([row(3, 3), empty, row(2, 2), row(1, 1), row(1, 2), row(2, 3)]) as rows:
        strict = config(packing=True, cutoff_len=10, compat="strict", preprocessing_batch_size=3)
        view = viewed(rows, Turns(EncodeRules(9, strict=False), None))
        view.order = Order(view.order.datasets, view.order.rows, map_windows(6, 3, None))
        assert view.kept.tolist() == [0, 2, 3, 4, 5]
        assert fixed_blocks(strict, view) == [[0], [1], [4, 3], [2]]
        assert blocks_in_order(strict, view) == [[0], [1], [4, 3], [2]]
