"""What came back from a model: as it was sent, for the store, and as it is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as a recipe sees it. ``finish`` is ``stop``, ``length``, ``filter`` or what the server said;
    ``thoughts`` is the reasoning that some servers send apart from the text. Tokens are as the server counted them."""

    text: str
    finish: str = "stop"
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    thoughts: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """One answer as the store keeps it: the body as it came, and what is counted of it.

    ``request`` is ``Request.spelled``. ``status`` 0 to 299 is an answer; above that the server refused this request for
    good (the body says why), so that asking again would be another wasted attempt. ``created`` is in seconds since 1970.
    """

    key: str
    request: bytes
    body: bytes
    provider: str
    model: str
    status: int = 200
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    attempts: int = 1
    created: float = 0.0

    @property
    def is_answer(self) -> bool:
        return self.status < 300
