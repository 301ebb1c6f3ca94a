"""Chat completions through the zhipuai SDK, whose errors carry business codes in bodies of any status."""

from __future__ import annotations

from typing import Any

from datakit.augment.providers import Sent, libraries, wire_body
from datakit.augment.providers.sdk import ask
from datakit.augment.providers.transport import CONNECT_S, lean_transport
from datakit.augment.request import Request

PATH = "/chat/completions"


class ZhipuProvider:
    """One key at one address."""

    def __init__(self, url: str, key: str) -> None:
        self._zhipuai, self._httpx = libraries("zhipuai", "httpx")
        self._key = key
        self.client: Any = self._zhipuai.ZhipuAI(
            api_key=key,
            base_url=url,
            max_retries=0,  # the engine decides when to ask again
            http_client=self._httpx.Client(transport=lean_transport(self._httpx), trust_env=False),
        )

    def send(self, request: Request, timeout_s: float) -> Sent:
        """Ask once. Raises ``CallFailed``."""
        timeout = self._httpx.Timeout(timeout_s, connect=CONNECT_S)
        body = wire_body(request)
        # post() instead of chat.completions.create(), which moves temperatures of 1 and 0 without a word.
        return ask(
            lambda: self.client.post(PATH, cast_type=self._httpx.Response, body=body, options={"timeout": timeout}),
            self._zhipuai.core,
            self._key,
            timeout_s,
            zhipu=True,
        )
