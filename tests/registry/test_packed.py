"""One block: every token once, in order, and the joints can be told from its positions."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.encode import IGNORE, Example
from registry.packed import join_block
from registry.packing import knapsack_windows
from tests.conftest import needs_shared
from tests.registry.test_goldens import config_of, golden, sha_of
from trainkit.encode import load

X = IGNORE
PAD = 99


def example(ids, labels, weights=None):
    return Example(array("i", ids), array("i", labels), weights=None if weights is None else array("f", weights))


ONE = example([1, 2, 3], [X, 2, 3])
TEXT = example([4, 5], [4, 5])


def test_examples_follow_one_another_and_the_rest_is_padding():
    block = join_block([ONE, TEXT], 8, PAD, strict=False)
    assert block.ids.tolist() == [1, 2, 3, 4, 5, 99, 99, 99]
    assert block.labels.tolist() == [X, 2, 3, X, 5, X, X, X]
    assert block.positions.tolist() == [0, 1, 2, 0, 1, 0, 0, 0]
    assert block.segments.tolist() == [1, 1, 1, 2, 2, 0, 0, 0]
    assert block.weights is None


def test_strict_trains_a_first_token_on_what_another_example_ends_with():
    assert join_block([ONE, TEXT], 5, PAD, strict=True).labels.tolist() == [X, 2, 3, 4, 5]


def test_the_examples_themselves_stay_as_they_are():
    join_block([TEXT], 4, PAD, strict=False)
    assert TEXT.labels.tolist() == [4, 5]


def test_weights_are_1_where_an_example_has_none_and_0_in_the_padding():
    weighed = example([7, 8], [X, 8], [0.5, 0.5])
    assert join_block([ONE, weighed], 6, PAD, strict=False).weights.tolist() == [1, 1, 1, 0.5, 0.5, 0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="examples of 5 tokens together do not fit a block of 4"):
        join_block([ONE, TEXT], 4, PAD, strict=False)


EXAMPLES = st.lists(
    st.lists(st.tuples(st.integers(0, 90), st.booleans()), min_size=1, max_size=9).map(
        lambda tokens: example([i for i, _ in tokens], [i if trained else X for i, trained in tokens])
    ),
    min_size=1,
    max_size=6,
)


@given(EXAMPLES, st.integers(0, 5))
def test_every_token_is_kept_once_and_no_two_examples_are_joined(examples, padding):
    total = sum(len(e.ids) for e in examples)
    block = join_block(examples, total + padding, PAD, strict=False)
    assert {len(a) for a in (block.ids, block.labels, block.positions, block.segments)} == {total + padding}
    starts = [at for at, position in enumerate(block.positions[:total]) if position == 0]
    assert len(starts) == len(examples)
    for number, (start, whole) in enumerate(zip(starts, examples, strict=True), start=1):
        size = len(whole.ids)
        assert block.ids[start : start + size] == whole.ids
        assert block.positions[start : start + size].tolist() == list(range(size))
        assert block.labels[start : start + size].tolist() == [X, *whole.labels[1:]]
        assert set(block.segments[start : start + size]) == {number}
    assert block.ids[total:].tolist() == [PAD] * padding
    assert block.labels[total:].tolist() == [X] * padding


@needs_shared
@pytest.mark.parametrize("name", ["sft-pack", "sft-neat"])
def test_strict_packs_as_llamafactory_to_the_id(name):
    head, theirs = golden(name)
    args = {key: value for key, value in head["args"].items() if "pack" not in key}
    neat, block_len = "neat" in name, args.pop("cutoff_len")
    examples, tokenizer = load(config_of({**args, "cutoff_len": block_len - 1}))
    blocks = knapsack_windows([len(e.ids) for e in examples.train], block_len - 1, [0] * len(examples.train))
    assert len(blocks) == head["rows"]
    for numbers, other in zip(blocks, theirs, strict=True):
        block = join_block([examples.train[n] for n in numbers], block_len, tokenizer.pad_id, strict=True)
        arrays = {
            "input_ids": block.ids.tolist(),
            "labels": block.labels.tolist(),
            "position_ids": block.positions.tolist(),
            "attention_mask": block.segments.tolist() if neat else [1] * block_len,
        }
        assert sha_of(arrays) == other["sha"]
