"""A plain client for the tests of the server itself: http.client, one request a connection unless told otherwise."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.datakit.faults.server import FaultServer

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Got:
    """One response: status, headers in lower case, the body, and how long it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.json["choices"][0]["message"]["content"]

    @property
    def finish(self) -> str:
        return self.json["choices"][0]["finish_reason"]


def connect(server: FaultServer, timeout: float = 10.0) -> http.client.HTTPConnection:
    """A connection that stays open."""
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)


def send(
    server: FaultServer,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    on: http.client.HTTPConnection | None = None,
    timeout: float = 10.0,
) -> Got:
    """Any request; errors of the wire come as http.client raises them."""
    connection = on or connect(server, timeout)
    start = time.monotonic()
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        data = response.read()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Got(response.status, names, data, time.monotonic() - start)
    finally:
        if on is None:
            connection.close()


def ask(
    server: FaultServer,
    content: str = "Say something.",
    *,
    path: str = CHAT,
    key: str = "good-key",
    messages: list[dict[str, Any]] | None = None,
    on: http.client.HTTPConnection | None = None,
    timeout: float = 10.0,
    **body: Any,
) -> Got:
    """One chat request."""
    whole = {"model": "fault-model", "messages": messages or [{"role": "user", "content": content}], **body}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return send(server, "POST", path, json.dumps(whole).encode(), headers, on=on, timeout=timeout)


def ask_at_once(server: FaultServer, count: int, **options: Any) -> list[Got]:
    """``count`` different requests in as many threads."""
    found: list[Got] = []
    threads = [threading.Thread(target=lambda i=i: found.append(ask(server, f"{i}", **options))) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def eventually(holds: Any, within_s: float = 5.0) -> bool:
    """Whether ``holds()`` comes true in that time."""
    end = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
