"""The services that answer: one file each, all behind one small interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import orjson

from datakit.augment.answer import Answer
from datakit.augment.failures import CallFailed, Kind
from datakit.augment.request import Request
from registry.errors import UsageError


@dataclass(frozen=True, slots=True)
class Sent:
    """What came back for one request: the body as it came, the headers by small names, and the answer in the body."""

    body: bytes
    headers: Mapping[str, str]
    answer: Answer


class Provider(Protocol):
    """One account at one address. All methods may be called by any thread."""

    def send(self, request: Request, timeout_s: float) -> Sent:
        """Ask once. Raises ``CallFailed``."""
        ...


@cache
def libraries(*names: str) -> tuple[Any, ...]:
    """The modules of these names. Raises ``UsageError`` with the install line where one is missing."""
    try:
        return tuple(map(import_module, names))
    except ImportError as missing:
        raise UsageError(
            f"the package {missing.name} is needed to ask models",
            where="--provider",
            mend='pip install "tunekit[augment]"',
        ) from None


def wire_body(request: Request) -> dict[str, Any]:
    """The JSON object that is sent for a request."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": role, "content": content} for role, content in request.messages],
        **request.sampling,
    }
    if request.schema is not None:
        body["response_format"] = request.schema
    return body


def read_body(body: bytes) -> Answer:
    """The answer in a body of the chat-completions form. Raises ``CallFailed`` where there is none."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise CallFailed(Kind.BODY, "the body is no JSON", body=body) from None
    if not isinstance(data, dict):
        raise CallFailed(Kind.BODY, "the body is no JSON object", body=body)
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise CallFailed(Kind.BODY, "the body holds no message (choices[0].message)", body=body)
    assert isinstance(choice, dict)
    finish = str(choice.get("finish_reason") or "stop")
    text = _text_of(message.get("content"))
    if finish in ("content_filter", "sensitive"):
        raise CallFailed(Kind.REFUSED, "stopped by the server's content filter", code="content_filter", body=body)
    if text is None:
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal:
            text = refusal  # an answer like any other; the filter for refusals drops it
        elif finish in ("length", "stop") or message.get("reasoning_content"):
            text = ""
        else:
            raise CallFailed(Kind.BODY, "the message has no content", body=body)
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    return Answer(
        text,
        finish,
        str(data.get("model") or ""),
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        thoughts if isinstance(thoughts, str) else "",
    )


def _text_of(content: Any) -> str | None:
    """Text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _openai(url: str, key: str) -> Provider:
    from datakit.augment.providers.openai import OpenAIProvider

    return OpenAIProvider(url, key)


def _zhipu(url: str, key: str) -> Provider:
    from datakit.augment.providers.zhipu import ZhipuProvider

    return ZhipuProvider(url, key)


# name -> what opens one account at one address
PROVIDERS: dict[str, Callable[[str, str], Provider]] = {
    "openai": _openai,  # any server that speaks the chat-completions protocol
    "zhipu": _zhipu,  # through the zhipuai SDK
}
