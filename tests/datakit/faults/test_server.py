"""The fault server does what each action says, over a real socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import suppress

import pytest

from tests.datakit.faults.actions import ACTIONS
from tests.datakit.faults.client import CHAT, Got, ask, connect, eventually, send
from tests.datakit.faults.server import FaultServer
from tests.datakit.faults.wanted import language_of

TEXTS = 'Write 4 texts. Answer with JSON: {"texts": ["..."]}'
ZHIPU = "/api/paas/v4/chat/completions"


def doing(action: str, **parameters) -> FaultServer:
    """A server that does one thing with every request."""
    return FaultServer({"rules": [{"do": {"action": action, **parameters}}]})


def did(action: str, content: str = TEXTS, path: str = CHAT, **parameters) -> Got:
    with doing(action, **parameters) as server:
        return ask(server, content, path=path)


def test_a_chat_request_is_answered_as_the_api_does_under_each_of_its_paths():
    with FaultServer() as server:
        for path in (CHAT, "/chat/completions", ZHIPU):
            got = ask(server, "Hello", path=path)
            assert (got.status, got.finish, got.json["choices"][0]["message"]["role"]) == (200, "stop", "assistant")
            assert got.json["model"] == "fault-model"
            usage = got.json["usage"]
            assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
        assert ask(server, path=ZHIPU).json["request_id"]
        assert [m["id"] for m in send(server, "GET", "/v1/models").json["data"]] == ["fault-model", "fault-model-large"]
        assert send(server, "GET", "/v1/nowhere").status == 404


def test_many_requests_go_over_one_connection():
    with FaultServer() as server:
        connection = connect(server)
        assert [ask(server, str(i), on=connection).status for i in range(5)] == [200] * 5
        assert (server.stats.connections, len(server.stats.requests)) == (1, 5)


def test_a_request_that_comes_in_pieces_is_put_together():
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    whole = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with FaultServer() as server, socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
        for i in range(0, len(whole), 7):
            sock.sendall(whole[i : i + 7])
            time.sleep(0.001)
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(sent: bytes, status: int):
    with FaultServer() as server, socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
        sock.sendall(sent)
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.status == status


@pytest.mark.parametrize("body", ["no JSON", "[]", "{}", '{"model": "m", "messages": []}', '{"messages": [{}]}'])
def test_a_body_that_is_no_chat_request_gets_400(body: str):
    with FaultServer() as server:
        got = send(server, "POST", CHAT, body.encode())
        assert (got.status, got.json["error"]["type"]) == (400, "invalid_request_error")


# refusals


@pytest.mark.parametrize(
    ("action", "parameters", "status", "type_", "code"),
    [
        ("rate_limit", {}, 429, "requests", "rate_limit_exceeded"),
        ("quota", {}, 429, "insufficient_quota", "insufficient_quota"),
        ("wrong_key", {}, 401, "invalid_request_error", "invalid_api_key"),
        ("content_filter", {}, 400, "invalid_request_error", "content_filter"),
        ("status", {"status": 503}, 503, "server_error", None),
        ("status", {"status": 418, "type": "teapot", "code": "short"}, 418, "teapot", "short"),
    ],
)
def test_refusals_are_spelled_as_openai_does(action, parameters, status, type_, code):
    got = did(action, **parameters)
    assert (got.status, got.json["error"]["type"], got.json["error"]["code"]) == (status, type_, code)
    assert got.json["error"]["message"]


@pytest.mark.parametrize(
    ("action", "parameters", "status", "code"),
    [
        ("rate_limit", {}, 429, "1302"),
        ("rate_limit", {"code": "1305"}, 429, "1305"),
        ("quota", {}, 429, "1113"),
        ("wrong_key", {}, 401, "1000"),
        ("content_filter", {}, 400, "1301"),
        ("status", {"status": 500}, 500, "500"),
        ("zhipu", {"code": "1261"}, 400, "1261"),
        ("zhipu", {"code": "1303", "inside_200": True}, 200, "1303"),
    ],
)
def test_refusals_are_spelled_as_zhipu_does_under_its_path(action, parameters, status, code):
    got = did(action, path=ZHIPU, **parameters)
    assert (got.status, got.json["error"]["code"]) == (status, code)


def test_a_rate_limit_says_when_to_come_back_in_the_form_that_is_asked_for():
    assert "retry-after" not in did("rate_limit").headers
    assert did("rate_limit", retry_after="seconds", wait_s=1.2).headers["retry-after"] == "2"
    assert did("rate_limit", retry_after="ms", wait_s=1.2).headers["retry-after-ms"] == "1200"
    assert did("rate_limit", retry_after="date", wait_s=1.2).headers["retry-after"].endswith(" GMT")


def test_a_filtered_answer_is_empty_and_says_why():
    assert (did("content_filter", how="finish").text, did("content_filter", how="finish").finish) == (
        "",
        "content_filter",
    )
    assert did("content_filter", path=ZHIPU, how="finish").finish == "sensitive"


def test_a_body_of_your_own_comes_as_it_is():
    assert did("status", status=500, body="<oops>").body == b"<oops>"


# the wire


def test_hang_never_replies_and_with_a_time_it_closes():
    with doing("hang") as server:
        with pytest.raises(TimeoutError):
            ask(server, timeout=0.2)
        assert eventually(lambda: server.stats.gone == 1)
        assert (server.stats.by_status, server.stats.late) == ({0: 1}, 0)
    with pytest.raises(http.client.RemoteDisconnected):
        did("hang", for_s=0.05)


def test_a_late_answer_is_counted_when_the_client_is_gone():
    with doing("late", delay_s=0.3) as server:
        with pytest.raises(TimeoutError):
            ask(server, timeout=0.1)
        assert eventually(lambda: server.stats.late == 1)
        assert (server.stats.gone, server.stats.answered, server.stats.pending) == (1, 0, 0)
        assert ask(server, "again").seconds >= 0.3
        assert (server.stats.late, server.stats.answered) == (1, 1)


def test_a_drip_comes_whole_but_slowly():
    with doing("drip", piece=200, every_s=0.02) as server:
        got = ask(server, TEXTS)
        assert len(json.loads(got.text)["texts"]) == 4
        assert got.seconds >= 0.02 * (len(got.body) // 200)
        assert server.stats.answered == 1


def raw(server: FaultServer) -> bytes:
    """All bytes that come back for one request until the server closes."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": TEXTS}]}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        found = b""
        while data := sock.recv(65536):
            found += data
    return found


def test_a_connection_can_be_cut_before_the_header_in_it_or_in_the_body():
    with doing("cut", where="before") as server:
        assert raw(server) == b""
        assert server.stats.by_status == {0: 1}
    with doing("cut", where="header") as server:
        found = raw(server)
        assert found.startswith(b"HTTP/1.1 200")
        assert b"\r\n\r\n" not in found
        assert server.stats.by_status == {0: 1}
    with doing("cut", where="body") as server:
        assert b"\r\n\r\n" in raw(server)
        with pytest.raises(http.client.IncompleteRead):
            ask(server)
        assert (server.stats.by_status, server.stats.answered) == ({200: 2}, 0)
    with pytest.raises(ConnectionResetError):
        did("cut", where="before", how="reset")


def test_a_content_length_can_be_wrong_either_way():
    with pytest.raises(http.client.IncompleteRead):
        did("wrong_length", by=10)
    with pytest.raises(json.JSONDecodeError):
        _ = did("wrong_length", by=-10).json


def test_garbage_is_no_http():
    with pytest.raises(http.client.HTTPException):
        did("garbage")
    with doing("garbage", size=99) as server:
        assert len(raw(server)) == 99


def test_bodies_can_be_a_page_nothing_or_half_of_the_json():
    page = did("html", status=502)
    assert (page.status, page.headers["content-type"], page.body[:6]) == (502, "text/html; charset=utf-8", b"<html>")
    assert did("html", status=200).status == 200
    assert (did("empty_body").status, did("empty_body").body) == (200, b"")
    half = did("cut_json")
    assert half.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = half.json


def test_each_wrong_shape_is_whole_json():
    def shaped(shape: str):
        return did("shape", shape=shape).json

    assert "choices" not in shaped("no_choices")
    assert shaped("empty_choices")["choices"] == []
    assert shaped("null_message")["choices"][0]["message"] is None
    assert shaped("null_content")["choices"][0]["message"]["content"] is None
    assert shaped("list_content")["choices"][0]["message"]["content"][0]["type"] == "text"
    assert shaped("number") == 42
    assert isinstance(shaped("list"), list)
    assert "usage" not in shaped("no_usage")


# the answer


def test_spoiled_answers_are_spoiled_as_they_say():
    whole = did("answer").text
    assert (did("length").finish, did("length").text) == ("length", whole[: len(whole) // 2])
    assert did("empty").text == ""
    assert did("cut_answer", keep=0.5).text == whole[: len(whole) // 2]
    assert did("wrapped", how="fences").text == f"```json\n{whole}\n```"
    assert whole in did("wrapped", how="prose").text
    assert did("wrapped", how="think").text.endswith(f"</think>\n\n{whole}")
    assert did("reasoning").json["choices"][0]["message"]["reasoning_content"]
    assert "{" not in did("unparsable").text
    assert did("python").text == repr(json.loads(whole))
    assert did("python", evil=True).text.startswith("__import__(")
    assert len(did("huge", megabytes=2).body) > 2 * 1024 * 1024


def test_spoiled_texts_stand_in_the_form_that_was_asked_for():
    def texts(action: str, **parameters) -> list[str]:
        return json.loads(did(action, **parameters).text)["texts"]

    assert texts("say", text="Same.") == ["Same."] * 4
    assert texts("echo") == [TEXTS] * 4
    assert did("echo", bare=True).text == TEXTS
    assert all("can't help" in text for text in texts("refusal"))
    assert all(text.endswith("[Your Name Here]") for text in texts("placeholder"))
    assert all(language_of(text) == "zh" for text in texts("wrong_language"))


def test_duplicates_are_the_same_answer_to_different_requests():
    with doing("duplicate") as server:
        assert ask(server, "One").text == ask(server, "Two").text
        assert server.stats.answered_twice == {}
    with FaultServer() as server:
        assert ask(server, "One").text != ask(server, "Two").text


def test_every_action_can_be_done_in_both_spellings():
    needed = {
        "status": {"status": 500},
        "zhipu": {"code": "1302"},
        "hang": {"for_s": 0.0},
        "late": {"delay_s": 0.0},
        "shape": {"shape": "list"},
        "say": {"text": "x"},
        "drip": {"piece": 4096},
        "huge": {"megabytes": 0.1},
    }
    for name in ACTIONS:
        for path in (CHAT, ZHIPU):
            with doing(name, **needed.get(name, {})) as server:
                with suppress(http.client.HTTPException, ConnectionError):
                    ask(server, path=path)
                assert server.stats.by_action == {name: 1}
