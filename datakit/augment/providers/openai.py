"""Chat completions through the openai SDK: OpenAI itself, and every server that speaks its protocol."""

from __future__ import annotations

from functools import cache
from typing import Any

from datakit.augment.failures import CallFailed, Kind, failure_of_response
from datakit.augment.providers import Sent, read_body, wire_body
from datakit.augment.providers.hiding import without_key
from datakit.augment.providers.transport import CONNECT_S, lean_transport
from datakit.augment.request import Request
from registry.errors import UsageError

DEFAULT_URL = "https://api.openai.com/v1"
PATH = "/chat/completions"


class OpenAIProvider:
    """One key at one address."""

    def __init__(self, url: str, key: str) -> None:
        openai, httpx2 = _libraries()
        self._openai, self._httpx2, self._key = openai, httpx2, key
        self.client: Any = openai.OpenAI(
            api_key=key,
            base_url=url,
            max_retries=0,  # the engine decides when to ask again
            http_client=httpx2.Client(transport=lean_transport(httpx2), trust_env=False),
        )

    def send(self, request: Request, timeout_s: float) -> Sent:
        """Ask once. Raises ``CallFailed``."""
        openai = self._openai
        timeout = self._httpx2.Timeout(timeout_s, connect=CONNECT_S)
        try:
            # post() instead of chat.completions.create(): half its CPU, and the body comes as it was sent.
            response = self.client.post(
                PATH, cast_to=self._httpx2.Response, body=wire_body(request), options={"timeout": timeout}
            )
        except openai.APITimeoutError:
            raise CallFailed(Kind.TIMEOUT, f"no answer within {timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            raise CallFailed(Kind.CONNECTION, _cause(error)) from None
        except openai.APIStatusError as error:
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            body = without_key(error.response.content, self._key)
            raise failure_of_response(error.status_code, headers, body) from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        body = without_key(response.content, self._key)
        try:
            read_body(body)
        except CallFailed as failure:
            raise told_in_body(failure, body, headers) from None
        return Sent(body, headers)


def told_in_body(failure: CallFailed, body: bytes, headers: dict[str, str], *, zhipu: bool = False) -> CallFailed:
    """Why a body with status 200 holds no answer: what the server says in it, where it says something."""
    from datakit.augment.failures import error_in

    code, message = error_in(body)
    if failure.kind is Kind.BODY and b'"error"' in body and (code or message):
        told = failure_of_response(200, headers, body, zhipu=zhipu)
        # A few servers answer 200 with the status they mean in the body.
        if code.isdigit() and 400 <= int(code) < 600 and not zhipu:
            told = failure_of_response(int(code), headers, body)
        return told
    failure.headers = headers
    return failure


def _cause(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__


@cache
def _libraries() -> tuple[Any, Any]:
    try:
        import httpx2
        import openai
    except ImportError as missing:
        raise UsageError(
            f"the package {missing.name} is needed to ask models",
            where="--provider openai",
            mend='pip install "tunekit[augment]"',
        ) from None
    return openai, httpx2
