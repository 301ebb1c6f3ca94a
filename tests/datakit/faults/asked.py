"""One chat request as rules and actions see it, the reply they give to it, and the honest one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import orjson

from tests.datakit.faults import bodies
from tests.datakit.faults.answers import Voice, Writer, written
from tests.datakit.faults.bodies import Style
from tests.datakit.faults.wanted import Wanted, content_text, wanted

After = Literal["keep", "close", "reset", "hang"]


@dataclass(frozen=True)
class Asked:
    """One chat request as the rules and actions see it.

    ``times`` counts how often this question came so far, this time included; a question is the model and the messages
    before the first answer in them, so that a request to correct an answer is the same question asked again.
    ``authorization`` is the header as it came, for servers that repeat it; nothing keeps it.
    ``chance`` is in [0, 1) and follows from the scenario's seed, the body and ``times``, whatever order requests take.
    """

    body: Mapping[str, Any]
    style: Style
    content: bytes
    times: int = 1
    key: str = ""
    at_s: float = 0.0
    seed: int = 0
    authorization: str = field(default="", repr=False)

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        return self.body["messages"]

    @cached_property
    def text(self) -> str:
        """The text of all messages."""
        return "\n".join(content_text(message.get("content")) for message in self.messages)

    @cached_property
    def wanted(self) -> Wanted:
        return wanted(self.messages, self.body.get("response_format"))

    @property
    def max_tokens(self) -> int | None:
        found = self.body.get("max_completion_tokens", self.body.get("max_tokens"))
        return found if isinstance(found, int) else None

    def chance(self, purpose: str) -> float:
        """A number in [0, 1) for one ``purpose``."""
        seed = f"{self.seed} {purpose} {self.times}".encode()
        return int.from_bytes(hashlib.blake2b(seed, key=self.content, digest_size=7).digest(), "big") / 2**56

    def writer(self, choice: int = 0) -> Writer:
        """The honest voice for this request."""
        spelled = orjson.dumps([self.messages, self.times, choice])
        return Writer(spelled, self.wanted.language)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes over the wire. ``status`` 0: no status line was sent. ``answered``: a completion came over whole.

    ``after``: keep the connection, close it, reset it, or leave it open and silent. ``delay_s`` comes on top of the
    server's latency. With ``piece`` the bytes drip, that many every ``drip_s`` seconds. ``body`` is the JSON inside,
    for batches.
    """

    status: int
    data: bytes
    answered: bool = False
    after: After = "keep"
    delay_s: float = 0.0
    piece: int = 0
    drip_s: float = 0.0
    body: bytes = b""


def completed(asked: Asked, texts: list[Any], finish: str = "stop", thoughts: str = "") -> Reply:
    """An answer with these texts."""
    tokens = sum(bodies.tokens_of(text) for text in texts if isinstance(text, str))
    body = orjson.dumps(
        bodies.completion(
            asked.style,
            texts,
            model=asked.model,
            id=f"chatcmpl-{asked.content.hex()[:24]}-{asked.times}",
            finish=finish,
            prompt_tokens=bodies.tokens_of(asked.text),
            completion_tokens=tokens,
            thoughts=thoughts,
        )
    )
    return Reply(200, bodies.http(200, body), answered=True, body=body)


def refused(asked: Asked, status: int, body: bytes, headers: bytes = b"") -> Reply:
    """An error with that status."""
    return Reply(status, bodies.http(status, body, headers), body=body)


def text_of(asked: Asked, voice: Voice | None = None) -> str:
    """An answer's text in the form that is wanted, by the honest voice or another one."""
    return written(asked.wanted, voice or asked.writer())


def answer(asked: Asked) -> Reply:
    """The honest answer; cut at ``max_tokens`` with finish_reason length where that is too little for it."""
    count = asked.body.get("n") or 1
    texts = [written(asked.wanted, asked.writer(i)) for i in range(min(int(count), 16))]
    most = asked.max_tokens
    if most is not None and any(bodies.tokens_of(text) > most for text in texts):
        return completed(asked, [text[: most * 4] for text in texts], finish="length")
    return completed(asked, texts)
