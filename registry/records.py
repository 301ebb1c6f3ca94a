"""Records: the one form that every source format is read into and every template is filled from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "assistant", "observation", "function"]
USER_SIDE: tuple[Role, ...] = ("user", "observation")
MODEL_SIDE: tuple[Role, ...] = ("assistant", "function")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``observation`` is what a tool returned, ``function`` a call (JSON text) that the model makes.

    ``weight`` (0 or more) counts the tokens of the model's turns in the loss; 0 leaves them untrained.
    """

    role: Role
    content: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TextRecord:
    """Plain text for pre-training."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatRecord:
    """A conversation: user side and model side alternate, the user's first; ``tools`` is JSON text or empty."""

    messages: tuple[Message, ...]
    system: str = ""
    tools: str = ""


@dataclass(frozen=True, slots=True)
class PreferenceRecord:
    """A prompt (it ends with the user's side), the better answer and the worse one."""

    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message
    system: str = ""
    tools: str = ""


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """A conversation whose last answer was judged desirable or not."""

    messages: tuple[Message, ...]
    desirable: bool
    system: str = ""
    tools: str = ""


Record = TextRecord | ChatRecord | PreferenceRecord | FeedbackRecord
