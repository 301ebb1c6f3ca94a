"""aimock starts, answers in each form, and does each kind of chaos that it has when told so."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests.datakit.faults import aimock
from tests.datakit.faults.aimock import Aimock, running_aimock
from tests.datakit.faults.wanted import FORMS


def ask(server: Aimock, content: str = "Hello") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(server.root.removeprefix("http://"), timeout=10)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]})
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def text_of(got: tuple[int, dict[str, str], bytes]) -> Any:
    return json.loads(got[2])["choices"][0]["message"]["content"]


def test_it_answers_in_the_form_that_is_asked_for_and_fails_in_each_way_it_has():
    with running_aimock() as server:
        assert "{" not in text_of(ask(server))
        for form in FORMS:
            assert form in json.loads(text_of(ask(server, f'Answer with JSON: {{"{form}": …}}')))
        server.set_chaos(drop=1)
        assert ask(server)[0] == 500
        server.set_chaos(malformed=1)
        status, _, body = ask(server)
        assert status == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
        server.set_chaos(ratelimit=1)
        status, headers, _ = ask(server)
        assert (status, headers["retry-after"]) == (429, "1")
        server.set_chaos(disconnect=1)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            ask(server)
        server.clear_chaos()
        assert ask(server)[0] == 200
        told = [entry["response"]["status"] for entry in server.journal()]
        assert told == [200] * (1 + len(FORMS)) + [500, 200, 429, 0, 200]


def test_it_can_be_started_with_chaos_and_answers_of_your_own():
    fixtures = [{"match": {}, "response": {"content": "mine"}}]
    with running_aimock(fixtures, ratelimit=0.5, latency_ms=1) as server:
        got = [ask(server) for _ in range(60)]
        assert {status for status, _, _ in got} == {200, 429}
        assert {text_of(one) for one in got if one[0] == 200} == {"mine"}


def test_without_node_the_tests_are_skipped_with_the_reason(monkeypatch):
    monkeypatch.setattr(aimock.shutil, "which", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match="needs node"), running_aimock():
        pass
