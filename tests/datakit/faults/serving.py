"""One server's mind: what each request gets, after caps, rules and latency, and what is remembered of it."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import orjson

from tests.datakit.faults import bodies, refusals
from tests.datakit.faults.actions import ACTIONS
from tests.datakit.faults.asked import Asked, Reply
from tests.datakit.faults.batches import BatchDesk
from tests.datakit.faults.bodies import Style
from tests.datakit.faults.caps import Gate
from tests.datakit.faults.ledger import Ledger, Seen
from tests.datakit.faults.rules import RuleBook, fingerprint
from tests.datakit.faults.scenario import Action, Latency, Scenario
from tests.datakit.faults.wire import Connection, Request

PREFIXES = ("/api/paas/v4", "/v1", "/v4")
MODELS = ("fault-model", "fault-model-large")


class Serving:
    """Serves one scenario; lives in the thread of its event loop."""

    def __init__(self, scenario: Scenario, loop: asyncio.AbstractEventLoop, *, keep_bodies: bool = True) -> None:
        self.loop = loop
        self.connections: set[Connection] = set()
        self._keep_bodies = keep_bodies
        self._running = 0
        self.use(scenario)

    def use(self, scenario: Scenario) -> None:
        """Go on with another scenario, its counters at zero; what was seen, files and batches stay."""
        if not hasattr(self, "ledger"):
            self.reset_memory()
        self.scenario = scenario
        self._rules = RuleBook(scenario.rules)
        self._gate = Gate(scenario.caps) if scenario.caps else None
        self._counts_tokens = any(cap.count == "tokens" for cap in scenario.caps)
        self._draw = random.Random(scenario.seed)
        self._first: float | None = None
        self._times: dict[bytes, int] = {}

    def reset_memory(self) -> None:
        """Forget what was seen, all files and batches."""
        self.ledger = Ledger()
        self._start = time.monotonic()
        self._batches = BatchDesk(self._in_batch)

    def reset(self) -> None:
        """As new."""
        self.reset_memory()
        self.use(self.scenario)

    def connection(self) -> Connection:
        """A protocol for a new client."""
        found = Connection(self.handle, self._client_left)
        self.connections.add(found)
        self.ledger.connections += 1
        return found

    def _client_left(self, connection: Connection, owed: Any) -> None:
        self.connections.discard(connection)
        if owed is not None:
            seen, holds = owed
            seen.gone = True
            self._running -= holds

    # routes

    def handle(self, connection: Connection, request: Request) -> None:
        """Answer one request, now or later."""
        prefix = next((p for p in PREFIXES if request.path.startswith(p + "/")), "")
        route = request.path[len(prefix) :]
        style: Style = "zhipu" if prefix.endswith("/v4") else "openai"
        if self.scenario.style != "auto":
            style = self.scenario.style
        if route == "/chat/completions":
            if request.method == "POST":
                self._chat(connection, request, style)
            else:
                connection.send(bodies.http(405, bodies.error(style, 405)))
        elif route == "/_stats" and request.method == "GET":
            each = "each" in parse_qs(request.query, keep_blank_values=True)
            connection.send(bodies.http(200, orjson.dumps(self.ledger.summary(each=each))))
        elif route == "/_reset" and request.method == "POST":
            self.reset()
            connection.send(bodies.http(200, b"{}"))
        else:
            self._other(connection, request, style, route)

    def _other(self, connection: Connection, request: Request, style: Style, route: str) -> None:
        now = time.monotonic()
        barred = self._rules.bars(self._key(request))
        if barred:
            reply = ACTIONS[barred.name](_nobody(style), **barred.parameters)
            status, data = reply.status, reply.body
        elif route == "/models" and request.method == "GET":
            each = [{"id": name, "object": "model", "created": 1700000000, "owned_by": "tests"} for name in MODELS]
            status, data = 200, orjson.dumps({"object": "list", "data": each})
        elif route.startswith(("/files", "/batches")):
            status, data = self._batches.handle(request, route, style, now, self.scenario.batch)
        else:
            status, data = 404, bodies.error(style, 404, f"No route {request.method} {request.path}.")
        seen = Seen(now - self._start, request.path, self._key(request), "", action=request.method, status=status)
        seen.done_s = seen.at_s
        self.ledger.others.append(seen)
        connection.send(bodies.http(status, data))

    def _key(self, request: Request) -> str:
        return fingerprint(request.headers.get("authorization", ""))

    # chat

    def _chat(self, connection: Connection, request: Request, style: Style) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
        content = hashlib.blake2b(request.body, digest_size=16).digest()
        seen = Seen(now - self._start, request.path, self._key(request), content.hex())
        if self._keep_bodies:
            seen.body = request.body
        self.ledger.requests.append(seen)
        body, fault = read_body(request.body)
        if fault:
            seen.action = "invalid"
            self._finish(connection, seen, refusals.refused(_nobody(style), 400, bodies.error(style, 400, fault)), 0)
            return
        tokens = len(request.body) // 4 + int(body.get("max_tokens") or 0) if self._counts_tokens else 0
        refusal = self._refusal(style, now, tokens)
        if refusal:
            seen.action, reply = refusal
            self._finish(connection, seen, reply, 0)
            return
        self._running += 1
        self.ledger.peak_concurrency = max(self.ledger.peak_concurrency, self._running)
        connection.owed = (seen, 1)
        authorization = request.headers.get("authorization", "")
        action, reply = self._decide(body, style, content, seen.key, now - self._first, authorization)
        seen.action = action.name
        if self.scenario.quota_headers and self._gate and reply.status:
            reply = _with_headers(reply, bodies.quota_headers(self._gate.quotas(now, tokens)))
        delay_s = self._latency(self.scenario.latency_s) + reply.delay_s
        self.loop.call_later(delay_s, self._deliver, connection, seen, reply)

    def _decide(
        self, body: dict[str, Any], style: Style, content: bytes, key: str, at_s: float, authorization: str = ""
    ) -> tuple[Action, Reply]:
        question = hashlib.blake2b(repr(_question(body)).encode("utf-8", "replace"), digest_size=16).digest()
        times = self._times[question] = self._times.get(question, 0) + 1
        asked = Asked(body, style, content, times, key, at_s, self.scenario.seed, authorization)
        action = self._rules.pick(asked)
        return action, ACTIONS[action.name](asked, **action.parameters)

    def _refusal(self, style: Style, now: float, tokens: int) -> tuple[str, Reply] | None:
        most = self.scenario.concurrency
        nobody, code = _nobody(style), self.scenario.refusal_code
        if most is not None and self._running >= most:
            # Nobody knows when a slot comes free, so no header says it.
            return "concurrency", refusals.rate_limit(nobody, code=code or ("1302" if style == "zhipu" else ""))
        if self._gate is None or self._gate.admits(now, tokens):
            return None
        quotas = self._gate.quotas(now, tokens)
        wait_s = max(quota.wait_s for quota in quotas.values())
        code = code or ("1303" if style == "zhipu" else "")
        reply = refusals.rate_limit(nobody, code=code, retry_after=self.scenario.retry_after, wait_s=wait_s)
        return "cap", _with_headers(reply, bodies.quota_headers(quotas)) if self.scenario.quota_headers else reply

    def _latency(self, latency: Latency) -> float:
        if latency.kind == "fixed":
            return latency.values[0]
        if latency.kind == "uniform":
            return self._draw.uniform(*latency.values)
        median, sigma = latency.values
        return median * self._draw.lognormvariate(0, sigma)

    def _deliver(self, connection: Connection, seen: Seen, reply: Reply) -> None:
        if connection.gone or connection.transport.is_closing():
            seen.late = reply.answered
            return
        if reply.piece:
            self._drip(connection, seen, reply, 0)
        else:
            self._finish(connection, seen, reply, 1)

    def _drip(self, connection: Connection, seen: Seen, reply: Reply, at: int) -> None:
        if connection.gone or connection.transport.is_closing():
            return
        end = at + reply.piece
        if end >= len(reply.data):
            self._finish(connection, seen, reply, 1, reply.data[at:])
            return
        connection.write(reply.data[at:end])
        self.loop.call_later(reply.drip_s, self._drip, connection, seen, reply, end)

    def _finish(self, connection: Connection, seen: Seen, reply: Reply, holds: int, rest: bytes | None = None) -> None:
        seen.status = reply.status
        if reply.after != "hang":
            seen.done_s = time.monotonic() - self._start
            seen.answered = reply.answered
            self._running -= holds
        connection.send(reply.data if rest is None else rest, reply.after)

    def _in_batch(self, body: dict[str, Any], style: Style, key: str) -> Reply:
        """What a request inside a batch gets: rules apply, caps and latency do not."""
        now = time.monotonic()
        spelled = orjson.dumps(body)
        content = hashlib.blake2b(spelled, digest_size=16).digest()
        action, reply = self._decide(body, style, content, key, now - (self._first or now))
        at_s = now - self._start
        seen = Seen(at_s, "batch", key, content.hex(), spelled, action.name, reply.status, at_s, reply.answered)
        self.ledger.batched.append(seen)
        return reply


def read_body(spelled: bytes) -> tuple[dict[str, Any], str]:
    """The body of a chat request, or what is wrong with it."""
    try:
        body = orjson.loads(spelled)
    except orjson.JSONDecodeError:
        return {}, "The body is no JSON."
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        return {}, "messages: a list of messages is wanted."
    if not isinstance(body.get("model"), str):
        return {}, "model: a name is wanted."
    return (body, "") if not body.get("stream") else ({}, "stream: this server does not stream.")


def _question(body: dict[str, Any]) -> list[Any]:
    """The model and the messages before the first answer in them."""
    found = [body.get("model")]
    for message in body["messages"]:
        if message.get("role") == "assistant":
            break
        found.append(message.get("content"))
    return found


def _nobody(style: Style) -> Asked:
    return Asked({"messages": []}, style, b"")


def _with_headers(reply: Reply, headers: bytes) -> Reply:
    line = reply.data.index(b"\r\n") + 2
    return replace(reply, data=reply.data[:line] + headers + reply.data[line:])
