"""Why a call did not give an answer: a few kinds, each of which says what to do next."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson

_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
MOST_REASON = 300  # characters of a server's message that are told
LONGEST_WAIT_S = 3600.0  # a server that asks for more is taken to mean this


class Kind(StrEnum):
    """What went wrong, by what is done about it."""

    RATE_LIMIT = "rate limit"  # wait; costs no attempt
    SERVER = "server fault"  # again, later
    TIMEOUT = "timeout"  # again, later
    CONNECTION = "broken connection"  # again, later
    BODY = "unreadable body"  # again, later: 200, and no answer in it
    REFUSED = "refused"  # for good: this request will never be answered
    UNPARSABLE = "unparsable"  # for good: answered, corrected once, and still not in the form asked for
    QUOTA = "quota used up"  # the run stops
    KEY = "wrong key"  # the run stops
    STOPPED = "not asked"  # the run ended before its turn


AGAIN = frozenset({Kind.SERVER, Kind.TIMEOUT, Kind.CONNECTION, Kind.BODY})
FOR_GOOD = frozenset({Kind.REFUSED, Kind.UNPARSABLE})
FATAL = frozenset({Kind.QUOTA, Kind.KEY})


class CallFailed(Exception):
    """One attempt, or in the end one call, without an answer.

    ``code`` is the server's own (``429``, ``1302``, ``content_filter``), ``retry_after`` the seconds it asks to wait,
    ``body`` what it sent, kept with a refusal.
    """

    def __init__(
        self,
        kind: Kind,
        reason: str,
        *,
        code: str = "",
        status: int = 0,
        retry_after: float | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # What a server sends may be garbage, and must not drive a terminal.
        reason = _HIDDEN.sub("·", reason)[:MOST_REASON]
        super().__init__(reason)
        self.kind, self.reason, self.code, self.status = kind, reason, code, status
        self.retry_after, self.body, self.headers = retry_after, body, headers or {}

    def __str__(self) -> str:
        code = f" {self.code}" if self.code and self.code not in self.reason else ""
        return f"{self.kind}{code}: {self.reason}" if self.reason else f"{self.kind}{code}"


# Zhipu's business codes, in bodies of any status (its documentation, "error codes").
ZHIPU_CODES: dict[str, Kind] = {
    **dict.fromkeys(("500", "1200", "1230", "1234"), Kind.SERVER),
    **dict.fromkeys(("1000", "1001", "1002", "1003", "1004", "1100", "1110", "1111", "1112", "1120"), Kind.KEY),
    **dict.fromkeys(("1113", "1304", "1308", "1309", "1310"), Kind.QUOTA),
    **dict.fromkeys(("1210", "1211", "1212", "1213", "1214", "1215", "1220", "1221", "1222", "1231"), Kind.REFUSED),
    **dict.fromkeys(("1261", "1300", "1301", "1311"), Kind.REFUSED),
    **dict.fromkeys(("1302", "1303", "1305", "1312"), Kind.RATE_LIMIT),
}
# What OpenAI-compatible servers call it in error.code or error.type.
_QUOTA_WORDS = ("insufficient_quota", "billing_hard_limit", "insufficient_balance", "arrearage", "quota_exceeded")
_KEY_WORDS = ("invalid_api_key", "incorrect_api_key", "account_deactivated", "invalidapikey")
_NO_MONEY = re.compile(
    r"insufficient (?:balance|quota|funds|credits?)|balance is (?:insufficient|not enough)|余额不足|欠费", re.I
)
_QUOTA_TEXT = re.compile(_NO_MONEY.pattern + r"|exceeded (?:your )?current quota|billing|额度(?:已)?用", re.I)
_KEY_TEXT = re.compile(r"(?:invalid|incorrect|wrong) api.?key|api.?key (?:is )?(?:not valid|invalid|incorrect)", re.I)
# What is said in words beside a limit on the rate: "Please try again in 1m12.5s", "Please retry after 55 seconds".
_AGAIN_IN = re.compile(
    r"(?:try again|retry) (?:in|after) ((?:\d+(?:\.\d+)? ?(?:ms|milliseconds?|hours?|h|minutes?|min|m|seconds?|sec|s)\b ?)+"
    r"|(?:\d+h)?(?:\d+m)?\d+(?:\.\d+)?s)",
    re.I,
)
_TIME = re.compile(r"(\d+(?:\.\d+)?) ?(ms|milli|h|m|s)", re.I)
_SECONDS = {"ms": 1e-3, "milli": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def failure_of_response(status: int, headers: Mapping[str, str], body: bytes, *, zhipu: bool = False) -> CallFailed:
    """What an HTTP response with an error means. ``headers`` have small letters as names."""
    code, message = error_in(body)
    reason = message or _gist(body) or f"HTTP {status}"
    wait = seconds_to_wait(headers)
    kind = _kind(status, code, message, zhipu=zhipu)
    if kind is Kind.RATE_LIMIT and wait is None:
        wait = seconds_in_words(message)
    return CallFailed(
        kind, reason, code=code or str(status), status=status, retry_after=wait, body=body, headers=headers
    )


def _kind(status: int, code: str, message: str, *, zhipu: bool) -> Kind:
    if zhipu and code in ZHIPU_CODES:
        return ZHIPU_CODES[code]
    word = code.casefold()
    if any(quota in word for quota in _QUOTA_WORDS) or status == 402:
        return Kind.QUOTA
    if status == 429:
        # Several servers speak of quota and billing also where one only has to wait a little.
        soon = "rate_limit" in word or seconds_in_words(message) is not None
        return Kind.QUOTA if _QUOTA_TEXT.search(message) and not soon else Kind.RATE_LIMIT
    if status == 403 and _NO_MONEY.search(message):
        return Kind.QUOTA
    if status == 401 or any(key in word for key in _KEY_WORDS):
        return Kind.KEY
    if status in (400, 403) and _KEY_TEXT.search(message):
        return Kind.KEY
    if status in (408, 504, 524):
        return Kind.TIMEOUT
    if status in (409, 425) or status >= 500 or status < 400:
        return Kind.SERVER
    return Kind.REFUSED


def error_in(body: bytes) -> tuple[str, str]:
    """The code and the message that a body of JSON gives for its error; empty where it gives none."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", ""
    if isinstance(data, list) and data:  # Gemini's compatible endpoint wraps the error into a list
        data = data[0]
    error = data.get("error", data) if isinstance(data, dict) else None
    if isinstance(error, str):
        return "", error
    if not isinstance(error, dict):
        return "", ""
    code = error.get("code") or error.get("type") or ""
    message = error.get("message") or error.get("msg") or error.get("detail") or ""
    return str(code), message if isinstance(message, str) else orjson.dumps(message, default=str).decode()


def _gist(body: bytes) -> str:
    """The beginning of a body that is no JSON, without tags."""
    text = re.sub(r"<[^>]*>|\s+", " ", body[:2000].decode("utf-8", "replace"))
    return re.sub(r" +", " ", text).strip()[:MOST_REASON]


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """What ``retry-after-ms`` or ``retry-after`` (seconds or a date, RFC 9110 section 10.2.3) asks for; None without."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if not value:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (TypeError, ValueError):
                continue
        if seconds == seconds:  # no NaN
            return min(max(seconds, 0.0), LONGEST_WAIT_S)
    return None


def seconds_in_words(message: str) -> float | None:
    """The time after which a message says to come back ("try again in 1m12.5s"); None where it names none."""
    found = _AGAIN_IN.search(message)
    if found is None:
        return None
    seconds = sum(float(number) * _SECONDS[unit.lower()] for number, unit in _TIME.findall(found[1]))
    return min(seconds, LONGEST_WAIT_S)


# What a server says of a parameter that it does not take, and which one it means.
_SCHEMA = re.compile(r"response_format|json_schema|json_object|guided_json|structured output", re.I)
_MAX_TOKENS = re.compile(r"\buse\b.{0,40}max_completion_tokens|max_completion_tokens.{0,10}\binstead\b", re.I | re.S)
_SAMPLING = re.compile(r"\b(temperature|top_p)\b.{0,80}(?:not support|unsupported|only the default)", re.I | re.S)
_UNSUPPORTED = re.compile(r"(?:unsupported|not support).{0,80}\b(temperature|top_p)\b", re.I | re.S)


def unwelcome_parameter(failure: CallFailed, sent: Mapping[str, Any]) -> str | None:
    """The parameter of those ``sent`` that a refusal is about, so that it can be left out; None where it is not."""
    if failure.kind is not Kind.REFUSED or failure.status not in (400, 404, 415, 422, 501):
        return None
    text = failure.reason + " " + failure.body[:4000].decode("utf-8", "replace")
    if "max_tokens" in sent and _MAX_TOKENS.search(text):
        return "max_tokens"
    named = _SAMPLING.search(text) or _UNSUPPORTED.search(text)
    if named and named[1].lower() in sent:
        return named[1].lower()
    if "response_format" in sent and _SCHEMA.search(text):
        return "response_format"
    return None
