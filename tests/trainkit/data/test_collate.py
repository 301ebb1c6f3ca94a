"""Examples to tensors: what is padding, what is trained, and what a batch weighs."""

from __future__ import annotations

from array import array

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from registry.encode import IGNORE, Example, FeedbackExample, PreferenceExample
from trainkit.data.collate import (
    RowLayout,
    check_apart,
    collate_feedback,
    collate_packed,
    collate_pairs,
    collate_prompts,
    collate_sequences,
)

PAD = 9
X = IGNORE


def example(ids: list[int], labels: list[int], weights: list[float] | None = None) -> Example:
    return Example(array("i", ids), array("i", labels), weights=None if weights is None else array("f", weights))


def listed(tensor: torch.Tensor | None) -> list[list[float]]:
    assert tensor is not None
    return tensor.tolist()


ONE = example([1, 2, 3], [X, 2, 3])
TWO = example([4, 5, 6, 7, 8], [X, X, X, 7, 8])


def test_sequences_are_padded_on_the_right_to_a_multiple_of_eight() -> None:
    batch = collate_sequences([ONE, TWO], [4, 0], PAD, strict=False)
    assert batch.input_ids.tolist() == [[1, 2, 3, 9, 9, 9, 9, 9], [4, 5, 6, 7, 8, 9, 9, 9]]
    assert listed(batch.attention_mask) == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]]
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
    assert listed(batch.attention_mask) == [[1, 1, 1, 0, 0, 0, 0, 0]]
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


def test_a_batch_weighs_what_its_trained_tokens_weigh_together() -> None:
    """2 tokens of weight 1 and 2 of weight 0.25; the 0.25 of the prompt trains nothing."""
    weighed = example([4, 5, 6, 7], [X, X, 6, 7], [0.25, 0.25, 0.25, 0.25])
    batch = collate_sequences([ONE, weighed], [0, 1], PAD, strict=False)
    assert batch.weight == 2.5
    assert listed(batch.weights) == [[1, 1, 1, 0, 0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25, 0, 0, 0, 0]]
    assert batch.weights is not None
    assert batch.weights.dtype == torch.float32


def test_a_batch_without_weights_has_none_and_a_whole_number_for_its_weight() -> None:
    batch = collate_sequences([ONE], [0], PAD, strict=False)
    assert batch.weights is None
    assert isinstance(batch.weight, int)


def test_packed_examples_have_positions_of_their_own_and_no_mask() -> None:
    text = example([4, 5], [4, 5])
    batch = collate_packed([[ONE, text], [TWO]], [[3, 8], [1]], PAD, block_len=7)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 9, 9], [4, 5, 6, 7, 8, 9, 9]]
    assert batch.labels.tolist() == [[X, 2, 3, X, 5, X, X], [X, X, X, 7, 8, X, X]]
    assert listed(batch.position_ids) == [[0, 1, 2, 0, 1, 0, 0], [0, 1, 2, 3, 4, 0, 0]]
    assert batch.attention_mask is None
    assert (batch.weight, batch.num_tokens, batch.indices) == (5, 10, (3, 8, 1))
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64


@pytest.mark.parametrize(("neat", "mask"), [(True, None), (False, [[1] * 6])])
def test_strict_trains_first_tokens_and_only_its_plain_packing_has_a_mask_of_ones(
    neat: bool, mask: list[list[int]] | None
) -> None:
    text = example([4, 5], [4, 5])
    batch = collate_packed([[text, text]], [[0, 1]], PAD, block_len=6, strict=True, neat=neat)
    assert batch.labels.tolist() == [[4, 5, 4, 5, X, X]]
    assert listed(batch.position_ids) == [[0, 1, 0, 1, 0, 0]]
    assert (None if batch.attention_mask is None else batch.attention_mask.tolist()) == mask
    assert (batch.weight, batch.num_tokens) == (4, 4)


def test_plain_packing_is_llamafactorys_and_not_the_default() -> None:
    assert collate_packed([[ONE, ONE]], [[0, 0]], PAD, block_len=6, strict=False, neat=False).attention_mask is None


def test_weights_are_packed_with_their_examples() -> None:
    weighed = example([4, 5], [X, 5], [0.5, 0.5])
    batch = collate_packed([[weighed, ONE], [ONE]], [[0, 1], [2]], PAD, block_len=6)
    assert listed(batch.weights) == [[0.5, 0.5, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]
    assert batch.weight == 0.5 + 2 + 2


def test_positions_that_restart_under_a_mask_of_ones_are_refused() -> None:
    positions = torch.tensor([[0, 1, 2, 0, 1, 0]])
    check_apart(positions, None)
    for mask in ([1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]):
        with pytest.raises(ValueError, match="packed examples would see each other"):
            check_apart(positions, torch.tensor([mask]))
    check_apart(torch.tensor([[0, 1, 2, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]]))  # a single sequence and its padding
    check_apart(torch.tensor([[0, 0, 0, 1, 2]]), torch.tensor([[0, 0, 1, 1, 1]]))  # padding on the left


def test_feedback_comes_with_its_kl_rows_as_a_batch_of_their_own() -> None:
    liked = FeedbackExample(own=ONE, kl=TWO, desirable=True)
    not_liked = FeedbackExample(own=example([3, 3], [X, 3]), kl=example([2, 2], [X, 2]), desirable=False)
    batch = collate_feedback([liked, not_liked], [7, 5], PAD, strict=False)
    assert [row[:2] for row in batch.input_ids.tolist()] == [[1, 2], [3, 3]]
    assert batch.kl is not None
    assert [row[:2] for row in batch.kl.input_ids.tolist()] == [[4, 5], [2, 2]]
    assert batch.desirable is not None
    assert batch.desirable.tolist() == [True, False]
    assert (batch.weight, batch.num_tokens, batch.indices) == (2, 12, (7, 5))


def test_rows_are_shared_where_it_saves_padding() -> None:
    """Three short examples beside one of eight tokens: two rows of 8 instead of four."""
    long = example([1] * 8, [1] * 8)
    batch = collate_sequences([ONE, long, TWO], [4, 6, 5], PAD, strict=False, layout=RowLayout(8))
    assert batch.input_ids.tolist() == [[1] * 8, [1, 2, 3, 4, 5, 6, 7, 8]]
    assert listed(batch.position_ids) == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 0, 1, 2, 3, 4]]
    assert listed(batch.documents) == [[1] * 8, [0, 0, 0, 2, 2, 2, 2, 2]]
    assert batch.labels.tolist() == [[X] + [1] * 7, [X, 2, 3, X, X, X, 7, 8]]
    assert batch.attention_mask is None
    assert (batch.num_documents, batch.num_sequences, batch.num_tokens, batch.indices) == (3, 3, 16, (4, 6, 5))


def test_rows_are_not_shared_where_it_saves_nothing() -> None:
    whole = [example([n] * 8, [n] * 8) for n in (1, 2)]
    batch = collate_sequences(whole, [0, 1], PAD, strict=False, layout=RowLayout(8))
    assert batch.documents is None
    assert listed(batch.attention_mask) == [[1] * 8] * 2


def test_rows_of_one_length_are_shared_whatever_it_saves() -> None:
    batch = collate_sequences([TWO, TWO], [0, 1], PAD, strict=False, layout=RowLayout(12, multiple=4, constant=True))
    assert batch.input_ids.shape == (1, 12)
    assert listed(batch.documents) == [[0] * 5 + [1] * 5 + [-1] * 2]


def test_an_example_that_is_longer_than_a_row_has_one_of_its_own_length() -> None:
    long = example(list(range(1, 10)), list(range(1, 10)))
    batch = collate_sequences([long, ONE, ONE], [0, 1, 2], PAD, strict=False, layout=RowLayout(4, multiple=1))
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 1, 2, 3, 9, 9, 9]]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(1, 40), st.booleans())
def test_sharing_rows_loses_no_token_and_no_weight(lengths: list[int], row_len: int, constant: bool) -> None:
    examples = [example([n + 1] * size, [X] + [n + 1] * (size - 1)) for n, size in enumerate(lengths)]
    numbers = range(len(examples))
    padded = collate_sequences(examples, numbers, 0, strict=False)
    shared = collate_sequences(examples, numbers, 0, strict=False, layout=RowLayout(row_len, constant=constant))
    assert (shared.weight, shared.num_tokens) == (padded.weight, padded.num_tokens)
    assert shared.input_ids.numel() <= padded.input_ids.numel() or constant
    assert torch.bincount(shared.input_ids.flatten())[1:].tolist() == lengths
    if shared.documents is not None:
        assert (shared.input_ids[shared.documents >= 0] - 1 == shared.documents[shared.documents >= 0]).all()


def test_an_idle_batch_has_the_tokens_and_no_weight() -> None:
    batch = collate_pairs([PreferenceExample(ONE, TWO)], [3], PAD, strict=False)
    idle = batch.as_idle()
    assert (idle.idle, idle.weight, idle.num_tokens) == (True, 0, 0)
    assert idle.input_ids is batch.input_ids


def test_prompts_are_padded_on_the_left_and_train_nothing() -> None:
    batch = collate_prompts([[1, 2, 3], array("i", [4])], [2, 0], PAD)
    assert batch.input_ids.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert listed(batch.attention_mask) == [[1, 1, 1], [0, 0, 1]]
    assert batch.labels.tolist() == [[X] * 3] * 2
    assert (batch.weight, batch.num_tokens, batch.indices) == (0, 4, (2, 0))


def test_every_tensor_of_a_batch_moves_with_it() -> None:
    weighed = example([4, 5], [X, 5], [0.5, 0.5])
    moved = collate_packed([[weighed]], [[0]], PAD, block_len=4).to(torch.device("meta"))
    assert {moved.input_ids.device.type, moved.labels.device.type} == {"meta"}
    assert moved.position_ids is not None
    assert moved.weights is not None
    assert {moved.position_ids.device.type, moved.weights.device.type} == {"meta"}
    assert moved.attention_mask is None
