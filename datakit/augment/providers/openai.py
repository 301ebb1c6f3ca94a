"""Chat completions through the openai SDK: OpenAI itself, and every server that speaks its protocol."""

from __future__ import annotations

from typing import Any

from datakit.augment.providers import Sent, libraries, wire_body
from datakit.augment.providers.sdk import ask, post
from datakit.augment.providers.transport import CONNECT_S, Letter, lean_transport, letter_like
from datakit.augment.request import Request

PATH = "/chat/completions"


class OpenAIProvider:
    """One key at one address."""

    def __init__(self, url: str, key: str) -> None:
        openai, httpx2 = libraries("openai", "httpx2")
        self._openai, self._httpx2, self._key = openai, httpx2, key
        self.client: Any = openai.OpenAI(
            api_key=key,
            base_url=url,
            max_retries=0,  # the engine decides when to ask again
            http_client=httpx2.Client(transport=lean_transport(httpx2), trust_env=False),
        )
        self._letter = self._first_letter(url, key)

    def send(self, request: Request, timeout_s: float) -> Sent:
        """Ask once. Raises ``CallFailed``."""
        if self._letter is not None:
            return post(self._letter, wire_body(request), self._key, timeout_s)
        timeout = self._httpx2.Timeout(timeout_s, connect=CONNECT_S)
        body = wire_body(request)
        return ask(
            lambda: self.client.post(PATH, cast_to=self._httpx2.Response, body=body, options={"timeout": timeout}),
            self._openai,
            self._key,
            timeout_s,
        )

    def _first_letter(self, url: str, key: str) -> Letter | None:
        """The request as the SDK makes it: its address and headers serve all others, as only the body differs.

        The SDK takes 1 ms of CPU to make each request anew, which is more than all the rest; 512 workers would wait for it.
        """
        made: list[Any] = []

        def take(request: Any) -> Any:
            made.append(request)
            return self._httpx2.Response(200)

        http_client = self._httpx2.Client(transport=self._httpx2.MockTransport(take), trust_env=False)
        client = self._openai.OpenAI(api_key=key, base_url=url, max_retries=0, http_client=http_client)
        client.post(PATH, cast_to=self._httpx2.Response, body={})
        return letter_like(made[0])
