"""Words, single characters of scripts without spaces, and n-grams, as hashes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datakit.dedup import tokens
from datakit.dedup.grams import tokens_of_rows
from datakit.dedup.tokens import grams_of, tokens_of
from tests.datakit.dedup import naive

ALPHABET = st.sampled_from([*"ab1 é.,-\n\u3000中文かナ\U00020000\U0001f600\ud800"])
TEXTS = st.lists(st.lists(ALPHABET, max_size=14).map("".join).map(naive.folded), max_size=6)


def hash_of(word: str) -> int:
    return int(tokens_of([word]).hashes[0])


def grouped(found) -> list[list[int]]:
    return [found.hashes[a:b].tolist() for a, b in zip(found.starts, found.starts[1:], strict=False)]


@given(TEXTS)
def test_each_text_has_the_hashes_of_its_words_in_order(texts):
    expected = [[hash_of(word) for word in naive.words(text.replace("\U00020000", " 一 "))] for text in texts]
    swapped = {hash_of("\U00020000"): hash_of("一")}
    assert [[swapped.get(h, h) for h in text] for text in grouped(tokens_of(texts))] == expected


@given(TEXTS, st.integers(1, 5))
def test_two_ngrams_have_one_hash_where_they_are_the_same_tokens(texts, size):
    found = grouped(grams_of(tokens_of(texts), size))
    names: dict[int, tuple[int, ...]] = {}
    for text, hashes in zip(grouped(tokens_of(texts)), found, strict=True):
        runs = [tuple(text[at : at + size]) for at in range(len(text) - size + 1)] or ([tuple(text)] if text else [])
        assert len(runs) == len(hashes)
        for run, gram in zip(runs, hashes, strict=True):
            assert names.setdefault(gram, run) == run
    assert len(set(names.values())) == len(names)


def test_punctuation_and_spaces_part_words_and_chinese_parts_at_every_character():
    assert len(tokens_of(["don't stop, 1.5 times!"]).hashes) == 6
    assert len(tokens_of(["我爱北京天安门 and 東京タワー"]).hashes) == 7 + 1 + 5
    assert len(tokens_of(["ไทย", "한국어 말", "हिन्दी"]).hashes) == 3 + 2 + 1  # Korean and Hindi have words


def test_a_short_text_is_one_ngram_and_differs_from_the_longer_ones():
    short, long = grouped(grams_of(tokens_of(["a b", "a b c d"]), 3))
    assert len(short) == 1
    assert len(long) == 2
    assert not {*short} & {*long}
    assert grouped(grams_of(tokens_of(["", " . "]), 3)) == [[], []]


def test_texts_longer_than_a_piece_have_the_same_tokens(monkeypatch):
    text = "".join(f"word{n} 中" for n in range(200))
    texts = ["x y", text, "z", text + text]
    whole = tokens_of(texts)
    for piece in (1024 + 8, 1500):
        monkeypatch.setattr(tokens, "PIECE", piece)
        cut = tokens_of(texts)
        assert cut.hashes.tolist() == whole.hashes.tolist()
        assert cut.starts.tolist() == whole.starts.tolist()


def test_ngrams_of_a_row_do_not_reach_from_one_text_into_the_next():
    rows = tokens_of_rows([["a b", "c d"], [], ["a b c d"]])
    first, second, third = grouped(rows.shingles(2, [(0, 0)] * 3))
    assert (len(first), second, len(third)) == (2, [], 3)
    assert set(first) <= set(third)
    by_text = rows.by_text(2)
    assert by_text.rows.tolist() == [0, 0, 2]
    assert by_text.lengths.tolist() == [2, 2, 4]


def test_the_same_words_under_another_mark_are_other_ngrams():
    rows = tokens_of_rows([["a b", "c d"]] * 5)
    plain, good, bad, rejected, again = grouped(rows.shingles(2, [(0, 0), (1, 0), (2, 0), (0, 1), (1, 0)]))
    assert good == again
    assert len({*plain, *good, *bad}) == 6
    assert plain[0] == rejected[0]
    assert plain[1] != rejected[1]


def test_some_groups_of_ngrams_are_taken_out_as_they_are():
    grams = grams_of(tokens_of(["a b", "", "c d e", "f"]), 1)
    assert grouped(grams.only([0, 2, 3])) == [grouped(grams)[0], grouped(grams)[2], grouped(grams)[3]]
    assert grouped(grams.only([1])) == [[]]
