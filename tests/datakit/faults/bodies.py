"""The bytes of answers and errors as OpenAI and Zhipu spell them, and of the HTTP around them."""

from __future__ import annotations

import math
import time
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml

from tests.datakit.faults.caps import Quota

Style = Literal["openai", "zhipu"]
RetryAfter = Literal["none", "seconds", "ms", "date"]
JSON = b"application/json"
HTML = b"text/html; charset=utf-8"


@cache
def zhipu_codes() -> dict[str, dict[str, Any]]:
    """Business code → its HTTP ``status`` and ``message``."""
    return yaml.safe_load(Path(__file__).with_name("zhipu_codes.yaml").read_text(encoding="utf-8"))


@cache
def _head(status: int, content_type: bytes) -> bytes:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    return b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\n" % (status, phrase.encode(), content_type)


def http(
    status: int, body: bytes, headers: bytes = b"", content_type: bytes = JSON, length: int | None = None
) -> bytes:
    """One whole HTTP/1.1 response. ``length`` is what the header claims, where that is to be a lie."""
    claimed = len(body) if length is None else length
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (_head(status, content_type), headers, claimed, body)


def completion(
    style: Style,
    texts: list[Any],
    *,
    model: str,
    id: str,
    finish: str = "stop",
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
    thoughts: str = "",
) -> dict[str, Any]:
    """A chat completion with one choice a text, as the API returns it."""
    choices = []
    for index, text in enumerate(texts):
        message = {"role": "assistant", "content": text}
        if thoughts:
            message["reasoning_content"] = thoughts
        choices.append({"index": index, "finish_reason": finish, "message": message})
    found = {
        "id": id,
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }
    return {**found, "request_id": id} if style == "zhipu" else {**found, "object": "chat.completion"}


def tokens_of(text: str) -> int:
    """A rough count of tokens: a quarter of the bytes, at least 1."""
    return max(1, (len(text) if text.isascii() else len(text.encode("utf-8", "replace"))) // 4)


def openai_error(message: str, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    """The body of an error of OpenAI's API."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def zhipu_error(code: str, message: str = "") -> bytes:
    """The body of an error of Zhipu's API; the message is that of the code unless one is given."""
    return orjson.dumps({"error": {"code": code, "message": message or zhipu_codes()[code]["message"]}})


# status -> type and code as OpenAI gives them, and the business code that comes nearest
KINDS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "1210"),
    401: ("invalid_request_error", "invalid_api_key", "1000"),
    403: ("permission_error", None, "1220"),
    404: ("invalid_request_error", "model_not_found", "1211"),
    413: ("invalid_request_error", "request_too_large", "1261"),
    422: ("invalid_request_error", None, "1214"),
    429: ("requests", "rate_limit_exceeded", "1302"),
    500: ("server_error", None, "500"),
    503: ("server_error", None, "1234"),
}


def error(style: Style, status: int, message: str = "", kind: str = "", code: str = "") -> bytes:
    """The body of an error with that HTTP status, in one of the two spellings."""
    near = status if status in KINDS else 500 if status >= 500 else 400
    usual_kind, usual_code, usual_zhipu = KINDS[near]
    if style == "zhipu":
        return zhipu_error(code or usual_zhipu, message)
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
    return openai_error(message or f"{phrase}.", kind or usual_kind, code or usual_code)


def retry_after(form: RetryAfter, wait_s: float) -> bytes:
    """The header that says when to come back, never earlier than ``wait_s``; empty for ``none``."""
    if form == "none":
        return b""
    if form == "ms":
        return b"retry-after-ms: %d\r\n" % math.ceil(wait_s * 1000)
    if form == "date":
        return b"retry-after: %s\r\n" % formatdate(math.ceil(time.time() + wait_s), usegmt=True).encode()
    return b"retry-after: %d\r\n" % max(1, math.ceil(wait_s))


def duration(seconds: float) -> str:
    """A time as the reset headers spell it: ``12ms``, ``1.5s``, ``6m0s``, ``1h2m3s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    spelled_seconds = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours:.0f}h" if hours else "") + (f"{minutes:.0f}m" if hours or minutes else "") + spelled_seconds


def quota_headers(quotas: dict[str, Quota]) -> bytes:
    """The x-ratelimit headers for each thing that is counted."""
    lines = [
        f"x-ratelimit-limit-{what}: {quota.limit}\r\nx-ratelimit-remaining-{what}: {quota.remaining}\r\n"
        f"x-ratelimit-reset-{what}: {duration(quota.reset_s)}\r\n"
        for what, quota in quotas.items()
    ]
    return "".join(lines).encode()
