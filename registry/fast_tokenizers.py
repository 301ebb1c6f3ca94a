"""Libraries that make ids of text: `tokenizers`, and faster ones that are trusted only while they give the very same ids."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from registry.errors import UsageError, known_hint

if TYPE_CHECKING:
    import tokenizers

log = logging.getLogger("tunekit")

PLAIN = "tokenizers"
AUTO = "auto"
PLAIN_TEXTS = 1000  # of these few no faster library is worth its loading; they are the sample it is held against
SAMPLE_TEXTS = 400
CHECK_EVERY, CHECK_TEXTS = 16, 32  # then: in every 16th call 32 texts, some 2% of the time
MANY_TEXTS = 4000  # in a call: among so many, 32 are as little in every call
MOST_SPECIALS = 64
# gigatoken keeps every word it has met: up to 5 bytes a byte of text where no word comes twice, hardly any in prose.
FORGET_AFTER_CHARS = 256_000_000
# Where libraries differ when they do: composed and decomposed letters, joiners, every kind of space, digits, controls.
PROBES = (
    "", " ", "a", "\n", "  two  spaces\t\tand tabs\r\n\r\nlines \n \n", "don't WE'LL they’re ſ 's 'S", "e\u0301 é Å \u212b ﬁ ½",
    "12345 ٣٤٥ १२३ ⅷ 1,000.50", "한국어 \u1112\u1161\u11ab 日本語テキスト 中文，标点。", "👩\u200d👩\u200d👧 🇩🇪🏽 ✂\ufe0f", "\u00a0\u2003\u3000\u2028\u200b\ufeff",
    "\x00\x07\x1b\x7f\x85", "\U0010ffff\ufffd\ufffe", "snake_case CamelCase https://example.org/?q=1&b=%20 <b>x</b> {{y}}", "ไทย हिन्दी العربية עברית",
    "a" * 300, "-" * 70, "\n" * 20,
)  # fmt: skip


# ids of several texts one after another (int32), and where each text's end (int64, one more than texts, from 0)
Flat = tuple[Any, Any]


class Coder(Protocol):
    """Texts to ids, special tokens in a text recognised and none added. Raises ``TypeError`` or ``ValueError`` for
    texts with halves of characters (lone surrogates)."""

    @property
    def name(self) -> str: ...

    def ids(self, texts: Sequence[str]) -> list[list[int]]: ...

    def counts(self, texts: Sequence[str]) -> list[int]:
        """How many ids each text has."""
        ...

    def flat(self, texts: Sequence[str]) -> Flat:
        """All ids one after another."""
        ...


class PlainCoder:
    """`tokenizers`, the library that every other is held against."""

    name = PLAIN

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [len(e) for e in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def flat(self, texts: Sequence[str]) -> Flat:
        import numpy as np

        each = self.ids(texts)
        ends = np.zeros(len(each) + 1, np.int64)
        np.cumsum([len(one) for one in each], out=ends[1:])
        return np.fromiter((i for one in each for i in one), np.int32, int(ends[-1])), ends


class GigatokenCoder:
    """gigatoken, on the calling thread (for batches of a few MB its own threads cost more than they bring)."""

    name = "gigatoken"

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._source = backend
        self._load()

    def _load(self) -> None:
        import gigatoken

        self._fast = gigatoken.Tokenizer(self._source)
        self._left = FORGET_AFTER_CHARS

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        self._forget(texts)
        return self._fast.encode_batch_list(list(texts), parallel=False)

    def counts(self, texts: Sequence[str]) -> list[int]:
        import numpy as np

        self._forget(texts)
        layout: Any = self._fast.encode_batch(list(texts), parallel=False).layout
        return np.diff(np.asarray(layout.offsets)).tolist()

    def flat(self, texts: Sequence[str]) -> Flat:
        import numpy as np

        self._forget(texts)
        layout: Any = self._fast.encode_batch(list(texts), parallel=False).layout
        ends = np.asarray(layout.offsets).astype(np.int64)
        return np.asarray(layout.content.data)[ends[0] : ends[-1]].astype(np.int32), ends - ends[0]

    def _forget(self, texts: Sequence[str]) -> None:
        self._left -= sum(map(len, texts))
        if self._left < 0:
            self._load()


class FastokensCoder:
    """fastokens, on as many threads as there are cores."""

    name = "fastokens"

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        import fastokens

        self._fast = fastokens.Tokenizer.from_json_str(backend.to_str())

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        import numpy as np

        flat, offsets = self._fast.encode_batch_flat(list(texts))
        ids, joints = np.frombuffer(flat, np.uint32).tolist(), np.frombuffer(offsets, np.uint64).tolist()
        return [ids[start:end] for start, end in pairwise(joints)]

    def counts(self, texts: Sequence[str]) -> list[int]:
        import numpy as np

        _, offsets = self._fast.encode_batch_flat(list(texts))
        return np.diff(np.frombuffer(offsets, np.int64)).tolist()

    def flat(self, texts: Sequence[str]) -> Flat:
        import numpy as np

        flat, offsets = self._fast.encode_batch_flat(list(texts))
        return np.frombuffer(flat, np.uint32).astype(np.int32), np.frombuffer(offsets, np.uint64).astype(np.int64)


# `--backend` -> what makes the ids, the one that auto tries first on top
FAST: dict[str, Callable[[Any], Coder]] = {
    "gigatoken": GigatokenCoder,  # loads in half a second; any BPE, byte-level or SentencePiece
    "fastokens": FastokensCoder,  # loads in 1.5 s
}
BACKENDS = (AUTO, PLAIN, *FAST)


def check_backend(name: str) -> None:
    """Raise ``UsageError`` for a backend that there is not."""
    if name not in BACKENDS:
        mend = known_hint(name, BACKENDS)
        raise UsageError(f'unknown backend "{name}"', where="--backend", mend=mend)


def open_coder(name: str, backend: tokenizers.Tokenizer) -> Coder:
    """The coder called ``name`` for a tokenizer whose special tokens are all in place.

    Raises ``UsageError`` for an unknown name, and for a library asked for by name that is not installed or cannot
    read this tokenizer.
    """
    check_backend(name)
    plain = PlainCoder(backend)
    if name == PLAIN:
        return plain
    specials = [token.content for token in backend.get_added_tokens_decoder().values()]
    return CheckedCoder(plain, FAST if name == AUTO else {name: FAST[name]}, backend, specials, at_once=name != AUTO)


class CheckedCoder:
    """The first of several fast coders that gives the ids of `tokenizers`: on a sample before it is used, and on some
    texts of every so many calls as long as it is.

    The first difference ends its use with a warning; then the next one is tried, or `tokenizers` goes on alone.
    ``doubtful`` counts the texts that a coder had answered before it was found wrong.
    """

    def __init__(
        self,
        plain: PlainCoder,
        choices: dict[str, Callable[[Any], Coder]],
        backend: tokenizers.Tokenizer,
        specials: Sequence[str] = (),
        *,
        at_once: bool = False,
    ) -> None:
        self._plain, self._choices, self._backend = plain, dict(choices), backend
        self._sample = [*PROBES, *_around(specials)]
        self._fast: Coder | None = None
        self._calls = self._checks = self._answered = 0
        self._one_at_a_time = Lock()
        self.doubtful = 0
        if at_once:
            self._choose(must=True)

    @property
    def name(self) -> str:
        """The library that answers now."""
        return self._fast.name if self._fast else self._plain.name

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        with self._one_at_a_time:
            return self._answer("ids", texts)

    def counts(self, texts: Sequence[str]) -> list[int]:
        with self._one_at_a_time:
            return self._answer("counts", texts)

    def flat(self, texts: Sequence[str]) -> Flat:
        with self._one_at_a_time:
            return self._answer("flat", texts)

    def _answer(self, what: str, texts: Sequence[str]) -> Any:
        if self._fast is None and self._choices and self._answered < PLAIN_TEXTS < len(texts) // 2:
            # The sample is taken of the first; the others need not wait for the slow library.
            first = self._answer(what, texts[:PLAIN_TEXTS])
            return _joined(first, self._answer(what, texts[PLAIN_TEXTS:]))
        if self._fast is None and self._choices and self._answered >= PLAIN_TEXTS:
            self._choose()
        while self._fast is not None:
            self._calls += 1
            if self._calls % CHECK_EVERY == 0 or len(texts) >= MANY_TEXTS:
                step = max(len(texts) // CHECK_TEXTS, 1)
                self._checks += 1
                if (wrong := self._difference(self._fast, texts[self._checks % step :: step])) is not None:
                    self._drop(wrong)
                    continue
            try:
                found = getattr(self._fast, what)(texts)
            except BaseException as error:
                if _is_about_text(error, texts) or not _is_fault_of_library(error):
                    raise
                self._drop(f"it fails with {type(error).__name__}: {error}")
                continue
            self._answered += len(texts)
            return found
        found = getattr(self._plain, what)(texts)
        self._answered += len(texts)
        self._sample += texts[: max(SAMPLE_TEXTS - len(self._sample), 0)] if self._choices else []
        return found

    def _choose(self, *, must: bool = False) -> None:
        """Take the first choice that loads and agrees on the sample; with ``must`` one that does not load is an error."""
        while self._choices and self._fast is None:
            name = next(iter(self._choices))
            build = self._choices.pop(name)
            try:
                coder = build(self._backend)
            except ImportError as error:
                if must:
                    mend = "pip install 'tunekit[fast]'   or leave --backend at auto."
                    raise UsageError(f"{name} is not installed", where="--backend", mend=mend) from error
                continue
            except BaseException as error:
                if not _is_fault_of_library(error):
                    raise
                if must:
                    mend = "Leave --backend at auto, or set it to tokenizers."
                    raise UsageError(f"{name} cannot read this tokenizer: {error}", mend=mend) from error
                log.debug("%s cannot read this tokenizer: %s", name, error)
                continue
            wrong = self._difference(coder, self._sample)
            if wrong is None:
                self._fast, self._answered = coder, 0
            else:
                log.warning("%s is not used: %s", name, wrong)
        if not self._choices:
            self._sample = []

    def _difference(self, coder: Coder, texts: Sequence[str]) -> str | None:
        """What of ``texts`` the coder gives other ids for; None where it agrees on all."""
        try:
            wanted = self._plain.ids(texts)
        except (TypeError, ValueError):
            return None  # halves of characters, which no library takes
        try:
            found, counted, (flat, _) = coder.ids(texts), coder.counts(texts), coder.flat(texts)
        except BaseException as error:
            if not _is_fault_of_library(error):
                raise
            return f"it fails with {type(error).__name__}: {error}"
        for text, want, got, count in zip(texts, wanted, found, counted, strict=True):
            if want != got or len(want) != count:
                return f"for {text[:60]!r} it gives {len(got)} tokens (counted: {count}), tokenizers {len(want)}"
        if flat.tolist() != [i for want in wanted for i in want]:
            return "it gives other ids one after another than text by text"
        return None

    def _drop(self, why: str) -> None:
        assert self._fast is not None
        self.doubtful += self._answered
        told = f"; {self._answered:,} texts before were counted with it" if self._answered else ""
        log.warning("%s is no longer used: %s%s", self._fast.name, why, told)
        self._fast, self._answered = None, 0
        self._choose()


def _joined(first: Any, second: Any) -> Any:
    """The answers for two runs of texts as one: lists, or ``Flat`` ones."""
    if isinstance(first, list):
        return first + second
    import numpy as np

    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1][1:] + first[1][-1]])


def _around(specials: Sequence[str]) -> Iterator[str]:
    """Each special token alone, within words, between spaces and lines, twice, and broken off."""
    for token in specials[:MOST_SPECIALS]:
        yield from (token, f"a{token}b", f" {token} ", f"\n{token}\n", token * 2, token[:-1], token[1:])


def _is_about_text(error: BaseException, texts: Sequence[str]) -> bool:
    """Whether the texts are to blame: halves of characters, which have no bytes in UTF-8."""
    return isinstance(error, TypeError | ValueError) and not all(map(is_whole, texts))


def is_whole(text: str) -> bool:
    """Whether every character is a whole one, so that the text can be spelled in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_fault_of_library(error: BaseException) -> bool:
    """Any ordinary exception but for want of memory, and the panic of a library in Rust, which is no ``Exception``."""
    return (isinstance(error, Exception) and not isinstance(error, MemoryError)) or type(
        error
    ).__name__ == "PanicException"
