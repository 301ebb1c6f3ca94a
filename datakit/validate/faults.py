"""What a fault is: its code, the place in the row as a JSON pointer, and what is wrong there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SHOWN = 120  # characters of a value


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a row. ``pointer`` (RFC 6901, empty for the row as a whole) leads to it in the file's own row.

    ``value`` is the start of what stands there, empty where nothing does, or where it must not be shown. ``span`` are
    the first character and the one after the last, where the fault is a place in a text. ``fixable``: ``--fix`` mends it.
    """

    code: str
    pointer: str
    reason: str
    value: str = ""
    fixable: bool = False
    span: tuple[int, int] | None = None

    @property
    def field(self) -> str:
        """The place as people write it: ``/conversations/2/value`` → ``conversations[2].value``."""
        spelled = ""
        for step in steps_of(self.pointer):
            spelled += f"[{step}]" if step.isdecimal() and spelled else f".{step}" if spelled else step
        return spelled


def pointer(*steps: str | int) -> str:
    """Steps into a row as a JSON pointer: ``conversations, 2, value`` → ``/conversations/2/value``."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in steps)


def steps_of(place: str) -> list[str]:
    """The steps of a JSON pointer."""
    return [step.replace("~1", "/").replace("~0", "~") for step in place.split("/")[1:]]


def shown(value: Any) -> str:
    """The start of a value for a report; nothing of lists and objects, which their pointer finds."""
    if value is None or isinstance(value, list | dict | tuple):
        return ""
    return value[:SHOWN] if isinstance(value, str) else str(value)[:SHOWN]


def is_blank(text: str) -> bool:
    """Whether there is nothing to read in a text."""
    return not text or text.isspace()
