"""Shared by all tests: a byte tokenizer, short spellings of conversations, and where the reference folder lies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from registry.encode import IGNORE, Example
from registry.encoded.spec import CACHE_VARIABLE
from registry.records import ChatRecord, Message, PreferenceRecord
from registry.render import Turn

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
QWEN2 = SHARED / "tokenizers" / "qwen2"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs the shared reference folder, which users do not have"
)

# No deadline: on a busy machine a slow example is no fault.
settings.register_profile("tunekit", deadline=None, max_examples=60)
settings.load_profile("tunekit")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, as many tests wait (for servers, processes, clocks); each takes a gigabyte."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores + 1, 8)


@pytest.fixture(scope="session", autouse=True)
def encoded_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Encoded rows are kept in a folder of the tests' own, also by the commands that they start."""
    folder = tmp_path_factory.mktemp("encoded")
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(folder)
    yield folder
    if before is None:
        del os.environ[CACHE_VARIABLE]
    else:
        os.environ[CACHE_VARIABLE] = before


@dataclass
class ByteTokenizer:
    """A ``registry.tokenizer.TextEncoder`` whose ids can be read off: UTF-8 bytes, and special tokens from 256 on."""

    specials: tuple[str, ...] = ("<bos>", "<eos>", "<pad>", "<|im_start|>", "<|im_end|>")
    bos_token: str = "<bos>"
    eos_token: str = "<eos>"
    pad_token: str = "<pad>"

    @property
    def bos_id(self) -> int | None:
        return self.token_id(self.bos_token)

    @property
    def eos_id(self) -> int | None:
        return self.token_id(self.eos_token)

    @property
    def pad_id(self) -> int | None:
        return self.token_id(self.pad_token)

    def token_id(self, token: str) -> int | None:
        return 256 + self.specials.index(token) if token in self.specials else None

    def encode(self, text: str) -> list[int]:
        """Ids of one text; special tokens in it are recognised."""
        parts = re.split("(" + "|".join(map(re.escape, self.specials)) + ")", text)
        return [i for part in parts for i in ([self.token_id(part)] if part in self.specials else part.encode())]  # type: ignore[misc]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes cut out of a character become U+FFFD."""
        found = b"".join(self.specials[i - 256].encode() if i >= 256 else bytes([i]) for i in ids)
        return found.decode("utf-8", "replace")


BYTES = ByteTokenizer()


def chat(*texts: str, system: str = "") -> ChatRecord:
    """``chat("hi", "yo")``: the user's and the model's texts in turn."""
    roles = ("user", "assistant")
    return ChatRecord(tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)), system)  # type: ignore[arg-type]


def preference(*prompt: str, chosen: str, rejected: str, system: str = "") -> PreferenceRecord:
    """``preference("hi", chosen="yo", rejected="no")``."""
    return PreferenceRecord(
        chat(*prompt).messages, Message("assistant", chosen), Message("assistant", rejected), system
    )


def spelled(turns: Sequence[Turn], tokenizer: ByteTokenizer = BYTES) -> str:
    """Turns as text, ``bos_token`` and ``eos_token`` slots as the tokenizer names them."""
    slots = [slot for turn in turns for slot in (*turn.asked, *turn.target)]
    return "".join(s if isinstance(s, str) else getattr(tokenizer, s.of) if s.of else str(s.text) for s in slots)


def trained_text(example: Example, tokenizer: ByteTokenizer = BYTES) -> str:
    """What is trained of an example, as text."""
    return tokenizer.decode([label for label in example.labels if label != IGNORE])


def whole_text(example: Example, tokenizer: ByteTokenizer = BYTES) -> str:
    """All of an example, as text."""
    return tokenizer.decode(example.ids)


def run_python(code: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own that finds the packages; what it prints comes back as text."""
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=120,
        check=False,
        **options,  # type: ignore[call-overload]
    )
