"""One request as a line of a batch's input, and one line of its output as an answer or as why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from datakit.augment.answer import Answer
from datakit.augment.failures import CallFailed, Kind, failure_of_response
from datakit.augment.providers import read_body, wire_body
from datakit.augment.request import Request

_NOT_DONE = ("batch_expired", "batch_cancelled", "request_timeout")  # error codes of requests that were never answered
_NOT_DONE_STATUS = 500


@dataclass(frozen=True, slots=True)
class Line:
    """What came for the request with ``key``: the ``body`` with the ``answer`` read from it, or a ``failure``."""

    key: str
    body: bytes = b""
    answer: Answer | None = None
    failure: CallFailed | None = None


def input_line(request: Request, endpoint: str) -> bytes:
    """A request as both vendors take it; ``custom_id`` is its key, by which the answer is found."""
    line = {"custom_id": request.key, "method": "POST", "url": endpoint, "body": wire_body(request)}
    return orjson.dumps(line) + b"\n"


def read_line(raw: bytes, *, zhipu: bool) -> Line | None:
    """A line of an output or error file; None for one that cannot be read or names no request."""
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    key = line.get("custom_id") if isinstance(line, dict) else None
    if not isinstance(key, str):
        return None
    response = line.get("response")
    if not isinstance(response, dict) or response.get("body") is None:
        return Line(key, failure=_without_response(line.get("error"), zhipu=zhipu))
    body = orjson.dumps(response["body"])
    status = response.get("status_code")
    if isinstance(status, int) and status >= 300:
        return Line(key, body, failure=failure_of_response(status, {}, body, zhipu=zhipu))
    try:
        return Line(key, body, answer=read_body(body))
    except CallFailed as failure:
        from datakit.augment.providers.sdk import told_in_body

        return Line(key, body, failure=told_in_body(failure, body, {}, zhipu=zhipu))


def _without_response(error: object, *, zhipu: bool) -> CallFailed:
    """Why a request got no response, as the line's ``error`` says it."""
    told = error if isinstance(error, dict) else {}
    code, message = str(told.get("code") or ""), str(told.get("message") or "the server gave no response")
    if code in _NOT_DONE:
        return CallFailed(Kind.TIMEOUT, message, code=code)
    return failure_of_response(_NOT_DONE_STATUS, {}, orjson.dumps({"error": told}), zhipu=zhipu)


def request_of(spelled: bytes) -> Request:
    """The request that ``Request.spelled`` was made of."""
    parts = orjson.loads(spelled)
    messages = tuple((role, content) for role, content in parts["messages"])
    return Request(
        parts["family"],
        parts["model"],
        messages,
        parts["sampling"],
        parts["schema"],
        parts["recipe"],
        parts["sample"],
    )
