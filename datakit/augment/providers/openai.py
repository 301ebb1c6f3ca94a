"""Chat completions through the openai SDK: OpenAI itself, and every server that speaks its protocol."""

from __future__ import annotations

from typing import Any

from datakit.augment.providers import Sent, libraries, wire_body
from datakit.augment.providers.sdk import ask
from datakit.augment.providers.transport import CONNECT_S, lean_transport
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

    def send(self, request: Request, timeout_s: float) -> Sent:
        """Ask once. Raises ``CallFailed``."""
        timeout = self._httpx2.Timeout(timeout_s, connect=CONNECT_S)
        body = wire_body(request)
        # post() instead of chat.completions.create(): half its CPU, and the body comes as it was sent.
        return ask(
            lambda: self.client.post(PATH, cast_to=self._httpx2.Response, body=body, options={"timeout": timeout}),
            self._openai,
            self._key,
            timeout_s,
        )
