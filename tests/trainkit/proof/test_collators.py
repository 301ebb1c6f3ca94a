"""Batches worked out on paper: what TRL 1.16 documents of its collators and of its packing holds for ours."""

from __future__ import annotations

from array import array

import pytest
import torch

from registry.encode import IGNORE, Example, FeedbackExample, PreferenceExample
from registry.packing import pack_lengths
from trainkit.data.collate import Batch, RowLayout, collate_feedback, collate_packed, collate_pairs, collate_sequences

X = IGNORE


def example(ids: list[int], labels: list[int] | None = None) -> Example:
    return Example(array("i", ids), array("i", labels or ids))


def shown(batch: Batch) -> dict[str, list[list[int]]]:
    """Ids, mask and labels up to the longest row: we pad on, to a multiple of eight."""
    assert batch.attention_mask is not None
    length = int(batch.attention_mask.sum(1).max())
    tensors = {"ids": batch.input_ids, "mask": batch.attention_mask, "labels": batch.labels}
    assert not batch.attention_mask[:, length:].any()
    assert (batch.labels[:, length:] == X).all()
    return {name: tensor[:, :length].tolist() for name, tensor in tensors.items()}


def test_language_modelling() -> None:
    batch = collate_sequences([example([1, 2, 3]), example([4, 5])], range(2), 0, strict=False)
    assert shown(batch) == {
        "ids": [[1, 2, 3], [4, 5, 0]], "mask": [[1, 1, 1], [1, 1, 0]], "labels": [[1, 2, 3], [4, 5, X]],
    }  # fmt: skip


def test_language_modelling_with_labels() -> None:
    given = [example([1, 2, 3], [X, 2, 3]), example([4, 5], [X, 5])]
    assert shown(collate_sequences(given, range(2), 0, strict=False))["labels"] == [[X, 2, 3], [X, 5, X]]


def test_without_padding() -> None:
    """Positions begin anew in each example, its first token is not trained, and the lengths are known beforehand. Which
    example a token belongs to is told too."""
    given = [example([1, 2, 3], [X, 2, 3]), example([4, 5], [X, 5])]
    batch = collate_packed([given], [[0, 1]], 0, block_len=5)
    assert batch.attention_mask is None
    assert batch.position_ids is not None
    assert batch.starts is not None
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.labels.tolist() == [[X, 2, 3, X, 5]]
    assert (batch.starts.tolist(), batch.starts.dtype, batch.longest) == ([0, 3, 5], torch.int32, 3)
    shared = collate_sequences(given, range(2), 0, strict=False, layout=RowLayout(5, multiple=1, constant=True))
    assert shared.documents is not None
    assert shared.documents.tolist() == [[0, 0, 0, 1, 1]]


def test_the_first_token_of_a_packed_example_is_not_trained_though_it_has_a_label() -> None:
    batch = collate_packed([[example([1, 2, 3]), example([4, 5])]], [[0, 1]], 0, block_len=5)
    assert batch.labels.tolist() == [[X, 2, 3, X, 5]]


def test_preferences() -> None:
    pairs = [
        PreferenceExample(example([1, 2, 3, 4, 5], [X, X, X, 4, 5]), example([1, 2, 3, 6], [X, X, X, 6])),
        PreferenceExample(example([7, 8, 9], [X, X, 9]), example([7, 8, 10, 11], [X, X, 10, 11])),
    ]
    found = shown(collate_pairs(pairs, range(2), 0, strict=False))
    assert found["ids"] == [[1, 2, 3, 4, 5], [7, 8, 9, 0, 0], [1, 2, 3, 6, 0], [7, 8, 10, 11, 0]]
    assert found["mask"] == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]
    assert trained(found) == [[0, 0, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 1, 0]]


def test_whole_answers_of_a_reward_model() -> None:
    pairs = [
        PreferenceExample(example([1, 2, 3]), example([4, 5])),
        PreferenceExample(example([6, 7]), example([8])),
    ]
    found = shown(collate_pairs(pairs, range(2), 0, strict=False))
    assert found["ids"] == [[1, 2, 3], [6, 7, 0], [4, 5, 0], [8, 0, 0]]
    assert found["mask"] == [[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0]]


def test_feedback_with_its_kl_rows() -> None:
    rows = [
        FeedbackExample(example([1, 2, 3, 4, 5], [X, X, X, 4, 5]), example([1, 2, 3, 6], [X, X, X, 6]), True),
        FeedbackExample(example([7, 8, 9], [X, X, 9]), example([7, 8, 10, 11], [X, X, 10, 11]), False),
    ]
    batch = collate_feedback(rows, range(2), 0, strict=False)
    assert batch.kl is not None
    assert batch.desirable is not None
    own, kl = shown(batch), shown(batch.kl)
    assert own["ids"] == [[1, 2, 3, 4, 5], [7, 8, 9, 0, 0]]
    assert own["mask"] == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert trained(own) == [[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]]
    assert kl["ids"] == [[1, 2, 3, 6], [7, 8, 10, 11]]
    assert kl["mask"] == [[1, 1, 1, 1], [1, 1, 1, 1]]
    assert trained(kl) == [[0, 0, 0, 1], [0, 0, 1, 1]]
    assert batch.desirable.tolist() == [True, False]


@pytest.mark.parametrize(
    ("texts", "blocks"),
    [
        # cut at the length of a block (bfd); split there, the rest an example of its own (bfd_split)
        ([[1, 2, 3, 4], [6, 7], [8, 9, 10], [11]], [[1, 2, 3, 4], [8, 9, 10, 11], [6, 7]]),
        ([[1, 2, 3, 4], [5], [6, 7], [8, 9, 10], [11]], [[1, 2, 3, 4], [8, 9, 10, 5], [6, 7, 11]]),
    ],
)
def test_best_fit_decreasing(texts: list[list[int]], blocks: list[list[int]]) -> None:
    found = pack_lengths([len(text) for text in texts], 4)
    assert [[token for number in block for token in texts[number]] for block in found] == blocks


def trained(found: dict[str, list[list[int]]]) -> list[list[int]]:
    return [[int(label != X) for label in row] for row in found["labels"]]
