"""Fast tokenizers are trusted only while they give the ids of `tokenizers`."""

import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import fast_tokenizers as fast
from registry.errors import UsageError
from registry.fast_tokenizers import FAST, CheckedCoder, PlainCoder, open_coder
from registry.tokenizer import Tokenizer, open_tokenizer
from tests.conftest import QWEN2, SHARED, needs_shared

pytest.importorskip("gigatoken")
pytest.importorskip("fastokens")


@pytest.fixture(scope="module")
def backend():
    """A byte-level BPE of some merges, with a normaliser and special tokens, as `tokenizers` has it."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    words = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")  # fmt: skip
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=sorted(alphabet), show_progress=False)
    made.train_from_iterator(
        ["the cat sat on the mat and the other cats", "you are what you eat, they say"] * 3, trainer
    )
    made.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    return made


SIGNS = "aeTh '’ſ\u0301é \u00a0\u200b\u200d\n\r\t09٣½한\u1112\u1161中👩🏽🇩\ufe0f\x00\x85\ufeff\U0010ffff"
TEXTS = st.lists(
    st.one_of(st.text(st.sampled_from(SIGNS)), st.lists(st.sampled_from(["<|im_end|>", "<|im_", "|>", " the", "cat\n"])).map("".join)),
    max_size=6,
)  # fmt: skip


@pytest.mark.parametrize("name", list(FAST))
@settings(max_examples=80)
@given(texts=TEXTS)
def test_a_fast_tokenizer_gives_the_ids_of_tokenizers_whatever_the_text(backend, name, texts):
    coder = _built(name, backend)
    wanted = PlainCoder(backend).ids(texts)
    assert coder.ids(texts) == wanted
    assert coder.counts(texts) == list(map(len, wanted))


_BUILT: dict[str, object] = {}


def _built(name, backend):
    if name not in _BUILT:
        _BUILT[name] = FAST[name](backend)
    return _BUILT[name]


@needs_shared
@pytest.mark.parametrize("name", list(FAST))
def test_a_fast_tokenizer_gives_qwens_ids_of_real_rows(name):
    tokenizer = Tokenizer(QWEN2)
    rows = json.loads((SHARED / "data" / "alpaca_en_demo.json").read_text())[:300]
    texts = [text for row in rows for text in (row["instruction"], row["output"])]
    assert open_coder(name, tokenizer.backend).ids(texts) == PlainCoder(tokenizer.backend).ids(texts)


@needs_shared
def test_special_tokens_that_a_template_brings_are_known_to_the_fast_tokenizer_too():
    tokenizer, _ = open_tokenizer(QWEN2, "llama3", backend="gigatoken")
    assert tokenizer.new_tokens == ("<|eot_id|>", "<|eom_id|>")
    assert tokenizer.count_batch(["<|eot_id|>x<|eom_id|>"]) == [3]
    assert tokenizer.coder.name == "gigatoken"


class Wrong(PlainCoder):
    """Right for so many texts, then one id off."""

    name = "wrong"

    def __init__(self, backend, right_for=0):
        super().__init__(backend)
        self.left = right_for

    def ids(self, texts):
        found = super().ids(texts)
        self.left -= len(texts)
        return found if self.left >= 0 else [[*ids, 0] for ids in found]

    def counts(self, texts):
        return list(map(len, self.ids(texts)))


def checked(backend, *builders, **options):
    choices = {f"choice {number}": build for number, build in enumerate(builders)}
    return CheckedCoder(PlainCoder(backend), choices, backend, **options)


def test_few_texts_are_left_to_tokenizers_and_many_are_not(backend):
    coder = checked(backend, PlainAsFast)
    coder.counts(["a"] * 500)
    assert coder.name == "tokenizers"
    coder.counts(["a"] * 500)
    coder.counts(["a"])
    assert coder.name == "plain as fast"


class PlainAsFast(PlainCoder):
    name = "plain as fast"


def test_one_that_is_wrong_from_the_start_is_never_used(backend, caplog):
    coder = checked(backend, Wrong, PlainAsFast, at_once=True)
    assert coder.name == "plain as fast"
    assert "wrong" not in coder.name
    assert "is not used: for '' it gives 1 tokens" in caplog.text


def test_one_that_goes_wrong_later_is_dropped_and_what_it_said_before_is_called_doubtful(backend, caplog):
    coder = checked(backend, lambda b: Wrong(b, right_for=10_000), at_once=True)
    assert coder.name == "wrong"
    wanted = PlainCoder(backend).counts(["the cat"])
    for _ in range(100):
        last = coder.counts(["the cat"] * 200)
    assert coder.name == "tokenizers"
    assert last == wanted * 200
    assert coder.doubtful > 0
    assert "is no longer used: for 'the cat' it gives" in caplog.text
    assert f"{coder.doubtful:,} texts before were counted with it" in caplog.text


def test_among_many_texts_every_call_is_looked_at(backend):
    looked_at = 3 * (len(fast.PROBES) + fast.CHECK_TEXTS + 1)  # as ids, as counts, and one after another
    coder = checked(backend, lambda b: Wrong(b, right_for=looked_at + 5000), at_once=True)
    assert coder.ids(["the cat"] * 5000) == PlainCoder(backend).ids(["the cat"]) * 5000
    assert coder.ids(["the cat"] * 5000) == PlainCoder(backend).ids(["the cat"]) * 5000
    assert coder.name == "tokenizers"


def test_one_that_gives_other_ids_one_after_another_is_never_used(backend, caplog):
    class Shifted(PlainCoder):
        name = "shifted"

        def flat(self, texts):
            ids, ends = super().flat(texts)
            return ids[::-1], ends

    assert checked(backend, Shifted, at_once=True).name == "tokenizers"
    assert "it gives other ids one after another than text by text" in caplog.text


def test_one_that_breaks_down_is_dropped_and_the_batch_answered_all_the_same(backend):
    class Broken(PlainCoder):
        name = "broken"
        calls = 0

        def counts(self, texts):
            Broken.calls += 1
            if Broken.calls > 1:
                raise RuntimeError("no match within the limit")
            return super().counts(texts)

    coder = checked(backend, Broken, at_once=True)
    assert coder.counts(["the cat"]) == PlainCoder(backend).counts(["the cat"])
    assert coder.name == "tokenizers"


def test_half_a_character_is_the_texts_fault_and_not_the_librarys(backend):
    for name in FAST:
        coder = open_coder(name, backend)
        with pytest.raises((TypeError, ValueError)):
            coder.ids(["fine", "half \ud800"])
        assert coder.name == name


def test_ids_and_lengths_of_a_batch_are_of_its_own_length(backend):
    for name in FAST:
        coder = open_coder(name, backend)
        assert coder.ids([]) == []
        assert coder.counts([]) == []
        assert coder.counts(["", "a"]) == [0, 1]


def test_an_unknown_backend_is_named_with_the_nearest(backend):
    with pytest.raises(UsageError, match='unknown backend "gigatokens"') as caught:
        open_coder("gigatokens", backend)
    assert 'Did you mean "gigatoken"' in str(caught.value)


def test_a_backend_asked_for_that_is_not_installed_gives_the_install_line(backend, monkeypatch):
    def missing(_):
        raise ImportError("No module named gigatoken")

    monkeypatch.setitem(FAST, "gigatoken", missing)
    with pytest.raises(UsageError, match="gigatoken is not installed") as caught:
        open_coder("gigatoken", backend)
    assert "pip install 'tunekit[fast]'" in str(caught.value)


def test_auto_goes_on_without_what_is_not_installed(backend, monkeypatch):
    def missing(_):
        raise ImportError("No module")

    monkeypatch.setitem(FAST, "gigatoken", missing)
    monkeypatch.setitem(FAST, "fastokens", missing)
    coder = open_coder("auto", backend)
    for _ in range(4):
        assert coder.counts(["the cat"] * 500) == PlainCoder(backend).counts(["the cat"]) * 500
    assert coder.name == "tokenizers"


def test_a_tokenizer_that_no_fast_library_reads_is_left_to_tokenizers(caplog):
    from tokenizers import Tokenizer, models

    odd = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    coder = open_coder("auto", odd)
    with caplog.at_level(logging.DEBUG, "tunekit"):
        coder.counts(["a"] * 1200)
        coder.counts(["a"])
    assert coder.name == "tokenizers"
    with pytest.raises(UsageError, match="cannot read this tokenizer"):
        open_coder("gigatoken", odd)


def test_gigatoken_forgets_what_it_has_met_after_so_much_text(backend, monkeypatch):
    monkeypatch.setattr(fast, "FORGET_AFTER_CHARS", 100)
    coder = FAST["gigatoken"](backend)
    first = coder._fast
    coder.counts(["a" * 60])
    assert coder._fast is first
    coder.counts(["a" * 60])
    assert coder._fast is not first
    assert coder.counts(["the cat"]) == PlainCoder(backend).counts(["the cat"])
