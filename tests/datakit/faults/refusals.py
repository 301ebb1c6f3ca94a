"""Actions that refuse: rate limits, errors of server and client, quota, keys, content filters."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import orjson

from tests.datakit.faults import bodies
from tests.datakit.faults.asked import Asked, Reply, answer, completed, refused
from tests.datakit.faults.bodies import RetryAfter, Style


def rate_limit(
    asked: Asked, *, code: str = "", message: str = "", retry_after: RetryAfter = "none", wait_s: float = 1.0
) -> Reply:
    """429: too many requests. ``code`` e.g. 1302, 1303, 1305 makes it one of Zhipu's."""
    headers = bodies.retry_after(retry_after, wait_s)
    style = "zhipu" if code in bodies.zhipu_codes() else asked.style
    return refused(asked, 429, bodies.error(style, 429, message or _said(style), code=code), headers)


def _said(style: Style) -> str:
    return "" if style == "zhipu" else "Rate limit reached for requests."


def status(
    asked: Asked, *, status: int, message: str = "", type: str = "", code: str = "", body: str | None = None
) -> Reply:
    """Any status, with the error body of the API or a ``body`` of your own."""
    spelled = bodies.error(asked.style, status, message, type, code) if body is None else body.encode()
    return refused(asked, status, spelled)


def zhipu(asked: Asked, *, code: str, inside_200: bool = False) -> Reply:
    """One of Zhipu's business codes with its HTTP status, or inside a body with status 200."""
    found = 200 if inside_200 else bodies.zhipu_codes()[code]["status"]
    return refused(asked, found, bodies.zhipu_error(code))


def quota(asked: Asked) -> Reply:
    """429 insufficient_quota (Zhipu: 1113): no money left; waiting does not help."""
    if asked.style == "zhipu":
        return zhipu(asked, code="1113")
    message = "You exceeded your current quota."
    return refused(asked, 429, bodies.openai_error(message, "insufficient_quota", "insufficient_quota"))


def wrong_key(asked: Asked) -> Reply:
    """401: the key is not known."""
    return refused(asked, 401, bodies.error(asked.style, 401, "Incorrect API key provided."))


def tell_key(asked: Asked, *, status: int = 400) -> Reply:
    """The Authorization header repeated: in the message of an error, or with status 200 in a part beside the answer."""
    if status == 200:
        honest = answer(asked)
        body = orjson.dumps({**orjson.loads(honest.body), "debug": {"authorization": asked.authorization}})
        return replace(honest, data=bodies.http(200, body), body=body)
    return refused(asked, status, bodies.error(asked.style, status, f"Not with these headers: {asked.authorization}"))


def content_filter(asked: Asked, *, how: Literal["error", "finish"] = "error") -> Reply:
    """Blocked by a content filter: 400 (Zhipu: 1301), or 200 with finish_reason content_filter (Zhipu: sensitive)."""
    if how == "finish":
        return completed(asked, [""], "sensitive" if asked.style == "zhipu" else "content_filter")
    if asked.style == "zhipu":
        return zhipu(asked, code="1301")
    message = "The prompt was filtered."
    return refused(asked, 400, bodies.openai_error(message, "invalid_request_error", "content_filter", "prompt"))
