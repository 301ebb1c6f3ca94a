"""Pre-training text to blocks of equal length: nothing lost but the last rest, which is counted."""

from hypothesis import given
from hypothesis import strategies as st

from registry.records import FeedbackRecord, TextRecord
from registry.texts import TextRules, encode_texts, text_of
from tests.conftest import BYTES, chat, preference, whole_text

BOS = BYTES.bos_id


def encode(texts, *, batch=100, **rules):
    """The blocks as text, and the tokens dropped at the end of each window."""
    batches = [texts[i : i + batch] for i in range(0, len(texts), batch)]
    found = list(encode_texts(batches, BYTES, TextRules(**rules)))
    return [whole_text(e) for e in found if not isinstance(e, int)], [e for e in found if isinstance(e, int)]


def test_text_is_joined_with_an_end_after_each_and_cut_into_blocks():
    """ "abc<eos>" and "de<eos>" are 7 tokens: three blocks of 2, and 1 token that fills none."""
    assert encode(["abc", "de"], cutoff_len=2) == (["ab", "c<eos>", "de"], [1])


def test_by_default_blocks_fill_over_all_texts_and_strict_windows_drop_the_rest_of_each():
    texts = ["abc", "de", "fgh"]  # 4 + 3 + 4 tokens
    assert encode(texts, cutoff_len=5) == (["abc<eos>d", "e<eos>fgh"], [1])
    assert encode(texts, cutoff_len=5, window=1) == ([], [4, 3, 4])
    assert encode(texts, cutoff_len=5, window=2) == (["abc<eos>d"], [2, 4])


def test_how_texts_arrive_changes_no_block():
    texts = [str(i) * i for i in range(12)]
    for window in (None, 5):
        found = {str(encode(texts, batch=batch, cutoff_len=7, window=window)) for batch in (1, 4, 5, 100)}
        assert len(found) == 1


def test_a_bos_opens_each_block_before_its_text_and_under_strict_in_place_of_a_token():
    assert encode(["abcdef"], cutoff_len=4, bos_id=BOS) == (["<bos>abc", "<bos>def"], [1])
    assert encode(["abcdefg"], cutoff_len=4, bos_id=BOS, strict=True) == (["<bos>bcd", "<bos>fg<eos>"], [])


def test_without_blocks_each_text_is_one_example_cut_at_its_head():
    assert encode(["abc", "de", ""], cutoff_len=3, blocks=False) == (["abc", "de<eos>", "<eos>"], [])
    assert encode(["abc"], cutoff_len=3, blocks=False, bos_id=BOS) == (["<bos>ab"], [])


def test_the_end_may_be_another_text():
    assert encode(["ab"], cutoff_len=9, blocks=False, end_text="<|im_end|>") == (["ab<|im_end|>"], [])


def test_every_token_of_a_block_is_trained():
    (example,) = encode_texts([["abc"]], BYTES, TextRules(4))
    assert example.labels == example.ids  # type: ignore[union-attr]


def test_no_text_gives_no_block():
    assert encode([], cutoff_len=4) == ([], [])


TEXTS = st.lists(st.text("abcé", max_size=9), max_size=12)


@given(TEXTS, st.integers(1, 9), st.integers(1, 5) | st.none())
def test_every_token_is_in_a_block_or_counted_as_dropped(texts, cutoff_len, window):
    found = list(encode_texts([texts] if texts else [], BYTES, TextRules(cutoff_len, window=window)))
    blocks = [e for e in found if not isinstance(e, int)]
    dropped = [e for e in found if isinstance(e, int)]
    assert all(len(block.ids) == cutoff_len for block in blocks)
    assert len(blocks) * cutoff_len + sum(dropped) == sum(len(BYTES.encode(t)) + 1 for t in texts)
    assert all(count < cutoff_len for count in dropped)
    if window is None:
        stream = [i for t in texts for i in BYTES.encode(t + "<eos>")]
        assert [i for block in blocks for i in block.ids] == stream[: len(blocks) * cutoff_len]
        assert len(dropped) <= 1


def test_pretraining_sees_all_of_a_text_and_the_first_message_of_a_conversation():
    records = [TextRecord("t"), chat("a", "b"), preference("p", chosen="c", rejected="r")]
    records.append(FeedbackRecord(chat("f", "g").messages, True))
    assert [text_of(r) for r in records] == ["t", "a", "p", "f"]
