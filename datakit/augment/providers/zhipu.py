"""Chat completions through the zhipuai SDK, whose errors carry business codes in bodies of any status."""

from __future__ import annotations

from functools import cache
from typing import Any

from datakit.augment.failures import CallFailed, Kind, failure_of_response
from datakit.augment.providers import Sent, read_body, wire_body
from datakit.augment.providers.hiding import without_key
from datakit.augment.providers.openai import told_in_body
from datakit.augment.providers.transport import CONNECT_S, lean_transport
from datakit.augment.request import Request
from registry.errors import UsageError

DEFAULT_URL = "https://open.bigmodel.cn/api/paas/v4"
PATH = "/chat/completions"


class ZhipuProvider:
    """One key at one address."""

    def __init__(self, url: str, key: str) -> None:
        self._zhipuai, self._httpx = _libraries()
        self._key = key
        self.client: Any = self._zhipuai.ZhipuAI(
            api_key=key,
            base_url=url,
            max_retries=0,  # the engine decides when to ask again
            http_client=self._httpx.Client(transport=lean_transport(self._httpx), trust_env=False),
        )

    def send(self, request: Request, timeout_s: float) -> Sent:
        """Ask once. Raises ``CallFailed``."""
        core, httpx = self._zhipuai.core, self._httpx
        try:
            # post() instead of chat.completions.create(), which moves temperatures of 1 and 0 without a word.
            response = self.client.post(
                PATH,
                cast_type=httpx.Response,
                body=wire_body(request),
                options={"timeout": httpx.Timeout(timeout_s, connect=CONNECT_S)},
            )
        except core.APITimeoutError:
            raise CallFailed(Kind.TIMEOUT, f"no answer within {timeout_s:g} s") from None
        except core.APIConnectionError as error:
            raise CallFailed(Kind.CONNECTION, str(error.__cause__ or error)) from None
        except core.APIStatusError as error:
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            body = without_key(error.response.content, self._key)
            raise failure_of_response(error.status_code, headers, body, zhipu=True) from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        body = without_key(response.content, self._key)
        try:
            read_body(body)
        except CallFailed as failure:
            raise told_in_body(failure, body, headers, zhipu=True) from None
        return Sent(body, headers)


@cache
def _libraries() -> tuple[Any, Any]:
    try:
        import httpx
        import zhipuai
        import zhipuai.core
    except ImportError as missing:
        raise UsageError(
            f"the package {missing.name} is needed to ask Zhipu's models",
            where="--provider zhipu",
            mend='pip install "tunekit[augment]"',
        ) from None
    return zhipuai, httpx
