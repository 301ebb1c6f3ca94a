"""One request through an SDK, whichever it is: what it raises and what it brings, in the engine's terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from datakit.augment.failures import CallFailed, Kind, error_in, failure_of_response
from datakit.augment.providers import Sent, read_body
from datakit.augment.providers.hiding import without_key
from datakit.augment.providers.transport import Letter


def ask(post: Callable[[], Any], errors: Any, key: str, timeout_s: float, *, zhipu: bool = False) -> Sent:
    """Do ``post`` once. ``errors`` holds the SDK's exceptions by their names, which are the same in both; ``key`` is taken
    out of whatever the server says. Raises ``CallFailed``."""
    try:
        response = post()
    except errors.APITimeoutError:
        raise CallFailed(Kind.TIMEOUT, f"no answer within {timeout_s:g} s") from None
    except errors.APIConnectionError as error:
        raise CallFailed(Kind.CONNECTION, _cause(error)) from None
    except errors.APIStatusError as error:
        response = error.response
        body = without_key(response.content, key)
        raise failure_of_response(error.status_code, _headers(response), body, zhipu=zhipu) from None
    return _read(without_key(response.content, key), _headers(response), zhipu=zhipu)


def post(letter: Letter, body: Mapping[str, Any], key: str, timeout_s: float) -> Sent:
    """As ``ask``, without the SDK: it made the letter. Raises ``CallFailed``."""
    try:
        status, headers, answer = letter.send(orjson.dumps(body), timeout_s)
    except TimeoutError:
        raise CallFailed(Kind.TIMEOUT, f"no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise CallFailed(Kind.CONNECTION, str(error) or type(error).__name__) from None
    answer = without_key(answer, key)
    if status >= 300:
        raise failure_of_response(status, headers, answer)
    return _read(answer, headers)


def _read(body: bytes, headers: dict[str, str], *, zhipu: bool = False) -> Sent:
    try:
        return Sent(body, headers, read_body(body))
    except CallFailed as failure:
        raise told_in_body(failure, body, headers, zhipu=zhipu) from None


def told_in_body(failure: CallFailed, body: bytes, headers: dict[str, str], *, zhipu: bool = False) -> CallFailed:
    """Why a body with status 200 holds no answer: what the server says in it, where it says something."""
    code, message = error_in(body)
    if failure.kind is Kind.BODY and b'"error"' in body and (code or message):
        told = failure_of_response(200, headers, body, zhipu=zhipu)
        # A few servers answer 200 with the status they mean in the body.
        if code.isdigit() and 400 <= int(code) < 600 and not zhipu:
            told = failure_of_response(int(code), headers, body)
        return told
    failure.headers = headers
    return failure


def _headers(response: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _cause(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__
