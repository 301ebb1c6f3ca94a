"""One call through the openai SDK: what is sent, what comes back, and what each fault is taken for."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from datakit.augment.failures import CallFailed, Kind
from datakit.augment.providers import PROVIDERS, read_body, wire_body
from datakit.augment.providers.openai import OpenAIProvider
from datakit.augment.request import Request
from tests.datakit.augment.providers.wire import response, wire
from tests.datakit.faults.server import FaultServer, key_hash

KEY = "sk-planted-4f5e6d7c8b9a"


def request_of(text: str = "Hello?", **sampling: Any) -> Request:
    return Request("http://127.0.0.1/v1", "m1", (("system", "Be short."), ("user", text)), sampling)


def failure_with(do: Any, text: str = "Hello?", timeout_s: float = 5.0) -> CallFailed:
    """What one call fails with at a server that does ``do`` to all of them."""
    with FaultServer({"rules": [{"do": do}]}) as server:
        with pytest.raises(CallFailed) as raised:
            OpenAIProvider(server.url, KEY).send(request_of(text), timeout_s)
        assert len(server.stats.requests) == 1  # the SDK's own retries are off
    return raised.value


def test_the_body_that_is_sent_is_the_request_and_the_body_that_comes_is_kept_as_it_is():
    schema = {"type": "json_object"}
    request = Request("f", "m1", (("system", "Be short."), ("user", "你好?")), {"temperature": 0.5}, schema)
    with FaultServer(quota_headers=True, caps=[{"limit": 5}]) as server:
        sent = PROVIDERS["openai"](server.url, KEY).send(request, 5)
        (seen,) = server.stats.requests
        assert seen.key == key_hash(KEY)
    assert orjson.loads(seen.body) == wire_body(request) == {
        "model": "m1",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "你好?"}],
        "temperature": 0.5,
        "response_format": schema,
    }  # fmt: skip
    answer = read_body(sent.body)
    assert answer.finish == "stop"
    assert answer.model == "m1"
    assert answer.completion_tokens > 0
    assert sent.headers["x-ratelimit-limit-requests"] == "5"


@pytest.mark.parametrize(
    ("do", "kind", "code"),
    [
        ("rate_limit", Kind.RATE_LIMIT, "rate_limit_exceeded"),
        ("quota", Kind.QUOTA, "insufficient_quota"),
        ("wrong_key", Kind.KEY, "invalid_api_key"),
        ({"action": "status", "status": 400}, Kind.REFUSED, "invalid_request_error"),
        ({"action": "status", "status": 404}, Kind.REFUSED, "model_not_found"),
        ({"action": "status", "status": 413}, Kind.REFUSED, "request_too_large"),
        (
            {"action": "status", "status": 402, "body": '{"error":{"message":"Insufficient Balance"}}'},
            Kind.QUOTA,
            "402",
        ),
        ({"action": "status", "status": 408}, Kind.TIMEOUT, "invalid_request_error"),
        ({"action": "status", "status": 500}, Kind.SERVER, "server_error"),
        ({"action": "status", "status": 504}, Kind.TIMEOUT, "server_error"),
        ({"action": "status", "status": 529, "body": "overloaded"}, Kind.SERVER, "529"),
        ({"action": "html", "status": 502}, Kind.SERVER, "502"),
        ({"action": "html", "status": 200}, Kind.BODY, ""),
        ({"action": "content_filter", "how": "error"}, Kind.REFUSED, "content_filter"),
        ({"action": "content_filter", "how": "finish"}, Kind.REFUSED, "content_filter"),
        ("empty_body", Kind.BODY, ""),
        ("cut_json", Kind.BODY, ""),
        ({"action": "shape", "shape": "no_choices"}, Kind.BODY, ""),
        ({"action": "shape", "shape": "null_message"}, Kind.BODY, ""),
        ({"action": "shape", "shape": "number"}, Kind.BODY, ""),
        ({"action": "cut", "where": "before"}, Kind.CONNECTION, ""),
        ({"action": "cut", "where": "header"}, Kind.CONNECTION, ""),
        ({"action": "cut", "where": "body"}, Kind.CONNECTION, ""),
        ({"action": "cut", "where": "body", "how": "reset"}, Kind.CONNECTION, ""),
        ({"action": "wrong_length", "by": 40}, Kind.CONNECTION, ""),
        ({"action": "wrong_length", "by": -40}, Kind.BODY, ""),
        ("garbage", Kind.CONNECTION, ""),
    ],
    ids=lambda value: str(value.get("how") or value.get("where") or value) if isinstance(value, dict) else None,
)
def test_each_fault_is_told_by_what_is_done_about_it(do: Any, kind: Kind, code: str):
    failure = failure_with(do)
    assert (failure.kind, failure.code) == (kind, code)
    assert failure.reason


@pytest.mark.parametrize("do", ["hang", {"action": "drip", "piece": 1, "every_s": 0.05}], ids=["hang", "drip"])
def test_what_takes_too_long_is_a_timeout_in_the_time_that_was_given(do: Any):
    started = time.monotonic()
    failure = failure_with(do, timeout_s=0.3)
    assert (failure.kind, failure.reason) == (Kind.TIMEOUT, "no answer within 0.3 s")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("form", "least", "most"), [("seconds", 0.9, 1.1), ("ms", 0.0, 1.1), ("date", 0.0, 2.1)], ids=str
)
def test_the_time_to_come_back_is_read_in_all_its_forms(form: str, least: float, most: float):
    with FaultServer(caps=[{"limit": 1, "per_s": 1.0}], retry_after=form) as server:
        provider = OpenAIProvider(server.url, KEY)
        provider.send(request_of(), 5)
        with pytest.raises(CallFailed) as raised:
            provider.send(request_of(), 5)
    assert raised.value.kind is Kind.RATE_LIMIT
    assert raised.value.retry_after is not None
    assert least <= raised.value.retry_after <= most


@pytest.mark.parametrize("shape", ["list_content", "no_usage"])
def test_odd_but_whole_answers_are_answers(shape: str):
    with FaultServer({"rules": [{"do": {"action": "shape", "shape": shape}}]}) as server:
        answer = read_body(OpenAIProvider(server.url, KEY).send(request_of(), 5).body)
    assert answer.text
    assert (answer.completion_tokens == 0) == (shape == "no_usage")


def test_thoughts_beside_the_answer_are_kept_apart():
    with FaultServer({"rules": [{"do": "reasoning"}]}) as server:
        answer = read_body(OpenAIProvider(server.url, KEY).send(request_of(), 5).body)
    assert answer.thoughts
    assert answer.thoughts not in answer.text


def test_an_error_inside_status_200_is_the_error_that_it_names():
    body = b'{"error":{"code":429,"message":"Provider returned error"}}'
    with (
        wire(lambda client, number: bool(client.sendall(response(body))) or True) as server,
        pytest.raises(CallFailed) as raised,
    ):
        OpenAIProvider(server.url, KEY).send(request_of(), 5)
    assert (raised.value.kind, raised.value.code) == (Kind.RATE_LIMIT, "429")


def test_nobody_there_is_a_broken_connection():
    with FaultServer() as server:
        url = server.url
    with pytest.raises(CallFailed) as raised:
        OpenAIProvider(url, KEY).send(request_of(), 5)
    assert raised.value.kind is Kind.CONNECTION
    assert "refused" in raised.value.reason


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_key_that_the_server_repeats_is_in_nothing_of_the_failure(status: int):
    failure = failure_with({"action": "tell_key", "status": status})
    assert "[key]" in failure.reason
    assert KEY not in "".join((str(failure), repr(failure), failure.code, failure.body.decode(), str(vars(failure))))


def test_a_key_that_the_server_puts_beside_its_answer_is_not_in_what_is_kept():
    with FaultServer({"rules": [{"do": {"action": "tell_key", "status": 200}}]}) as server:
        sent = OpenAIProvider(server.url, KEY).send(request_of(), 5)
    assert b'"authorization":"Bearer [key]"' in sent.body
    assert read_body(sent.body).text


def test_a_short_key_is_a_word_that_answers_may_hold():
    with FaultServer({"rules": [{"do": {"action": "say", "text": "none of these", "bare": True}}]}) as server:
        assert read_body(OpenAIProvider(server.url, "none").send(request_of(), 5).body).text == "none of these"
