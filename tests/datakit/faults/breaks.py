"""Actions that break the wire or the JSON: silence, cut connections, garbage, wrong lengths and shapes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Literal

import orjson

from tests.datakit.faults import bodies
from tests.datakit.faults.asked import Asked, Reply, answer


def hang(asked: Asked, *, for_s: float | None = None) -> Reply:
    """Nothing comes: for ever, or until the connection is closed after ``for_s`` seconds."""
    return Reply(0, b"", after="hang") if for_s is None else Reply(0, b"", after="close", delay_s=for_s)


def late(asked: Asked, *, delay_s: float) -> Reply:
    """The honest answer, ``delay_s`` seconds later than usual."""
    return replace(answer(asked), delay_s=delay_s)


def drip(asked: Asked, *, piece: int = 16, every_s: float = 0.1) -> Reply:
    """The honest answer, ``piece`` bytes every ``every_s`` seconds."""
    return replace(answer(asked), piece=piece, drip_s=every_s)


def cut(
    asked: Asked, *, where: Literal["before", "header", "body"] = "body", how: Literal["close", "reset"] = "close"
) -> Reply:
    """The connection ends before the header, in it, or in the body."""
    data = answer(asked).data
    header = data.index(b"\r\n\r\n")
    end = {"before": 0, "header": header // 2, "body": header + 4 + (len(data) - header - 4) // 2}[where]
    return Reply(200 if where == "body" else 0, data[:end], after=how)


def wrong_length(asked: Asked, *, by: int = 10) -> Reply:
    """A content-length that is ``by`` bytes off: too long (the rest never comes) or, below 0, too short."""
    body = answer(asked).body
    return Reply(200, bodies.http(200, body, length=max(0, len(body) + by)), after="close")


def garbage(asked: Asked, *, size: int = 256) -> Reply:
    """Bytes that are no HTTP."""
    return Reply(0, hashlib.shake_128(asked.content).digest(size), after="close")


def html(asked: Asked, *, status: int = 502) -> Reply:
    """A proxy's page instead of JSON, with status 502 or even 200."""
    page = b"<html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
    return Reply(status, bodies.http(status, page, content_type=bodies.HTML), body=page)


def empty_body(asked: Asked, *, status: int = 200) -> Reply:
    """A header, and no body."""
    return Reply(status, bodies.http(status, b""))


def cut_json(asked: Asked) -> Reply:
    """Status 200 and a right content-length, but the JSON ends in the middle."""
    body = answer(asked).body
    return Reply(200, bodies.http(200, body[: len(body) // 2]), body=body[: len(body) // 2])


Shape = Literal[
    "no_choices", "empty_choices", "null_message", "null_content", "list_content", "number", "list", "no_usage"
]


def shape(asked: Asked, *, shape: Shape) -> Reply:
    """Whole JSON of a wrong shape. ``no_usage`` and ``list_content`` are odd rather than wrong."""
    found: Any = orjson.loads(answer(asked).body)
    text = found["choices"][0]["message"]["content"]
    message = found["choices"][0]["message"]
    if shape == "no_choices":
        del found["choices"]
    elif shape == "empty_choices":
        found["choices"] = []
    elif shape == "null_message":
        found["choices"][0]["message"] = None
    elif shape == "null_content":
        message["content"] = None
    elif shape == "list_content":
        message["content"] = [{"type": "text", "text": text}]
    elif shape == "no_usage":
        del found["usage"]
    else:
        found = 42 if shape == "number" else [found]
    body = orjson.dumps(found)
    return Reply(200, bodies.http(200, body), answered=shape in ("no_usage", "list_content"), body=body)
