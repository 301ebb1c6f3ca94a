"""Examples to tensors: what is padding, what is trained, and what a batch weighs."""

from __future__ import annotations

from array import array

import torch

from registry.encode import IGNORE, Example, PreferenceExample
from trainkit.data.collate import collate_pairs, collate_sequences

PAD = 9
X = IGNORE


def example(ids: list[int], labels: list[int]) -> Example:
    return Example(array("i", ids), array("i", labels))


ONE = example([1, 2, 3], [X, 2, 3])
TWO = example([4, 5, 6, 7, 8], [X, X, X, 7, 8])


def test_sequences_are_padded_on_the_right_to_a_multiple_of_eight() -> None:
    batch = collate_sequences([ONE, TWO], [4, 0], PAD, strict=False)
    assert batch.input_ids.tolist() == [[1, 2, 3, 9, 9, 9, 9, 9], [4, 5, 6, 7, 8, 9, 9, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]]
    assert batch.labels.tolist() == [[X, 2, 3, X, X, X, X, X], [X, X, X, 7, 8, X, X, X]]
    assert (batch.weight, batch.num_tokens, batch.indices) == (4, 8, (4, 0))
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64


def test_eight_tokens_need_no_padding_and_nine_need_seven() -> None:
    whole = example([1] * 8, [1] * 8)
    assert collate_sequences([whole], [0], PAD, strict=False).input_ids.shape == (1, 8)
    longer = example([1] * 9, [1] * 9)
    assert collate_sequences([longer, ONE], [0, 1], PAD, strict=False).input_ids.shape == (2, 16)


def test_a_trained_first_token_weighs_only_under_strict() -> None:
    text = example([1, 2, 3, 4], [1, 2, 3, 4])
    assert collate_sequences([text, text], [0, 1], PAD, strict=False).weight == 6
    assert collate_sequences([text, text], [0, 1], PAD, strict=True).weight == 8


def test_a_pad_id_inside_a_text_is_no_padding() -> None:
    batch = collate_sequences([example([9, 9, 1], [X, 9, 1])], [0], PAD, strict=False)
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]
    assert batch.weight == 2


def test_pairs_come_as_all_chosen_and_then_all_rejected() -> None:
    pair = PreferenceExample(chosen=ONE, rejected=TWO)
    other = PreferenceExample(chosen=example([3, 3], [X, 3]), rejected=example([2, 2], [X, 2]))
    batch = collate_pairs([pair, other], [7, 5], PAD, strict=False)
    assert [row[:2] for row in batch.input_ids.tolist()] == [[1, 2], [3, 3], [4, 5], [2, 2]]
    assert (batch.weight, batch.num_tokens, batch.indices) == (2, 12, (7, 5))


def test_a_batch_on_another_device_is_the_same_batch() -> None:
    batch = collate_sequences([ONE], [3], PAD, strict=False)
    moved = batch.to(torch.device("cpu"))
    assert moved.input_ids.tolist() == batch.input_ids.tolist()
    assert (moved.weight, moved.num_tokens, moved.indices) == (2, 3, (3,))
