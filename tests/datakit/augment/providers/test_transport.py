"""The way to a server: connections are kept and made anew, and whatever breaks or drips ends in the error it is."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import httpx2
import pytest

from datakit.augment.providers import transport
from datakit.augment.providers.transport import lean_transport
from tests.datakit.augment.providers.wire import drip, reset, response, wire

GOOD = json.dumps({"well": "done"}).encode()
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the proxies of this machine, and what is remembered of them."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    transport._proxy_for.cache_clear()
    yield
    transport._proxy_for.cache_clear()


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request):
    return request.param


def client_of(library, timeout_s: float = 5.0):
    return library.Client(transport=lean_transport(library), trust_env=False, timeout=timeout_s)


def post(client, url: str):
    return client.post(f"{url}/chat/completions", content=b'{"model":"m"}', headers={"x-mine": "yes"})


def test_one_thread_keeps_its_connection_and_sends_what_it_was_given(library):
    with wire(lambda client, number: bool(client.sendall(response(GOOD, "x-number: 1"))) or True) as server:
        client = client_of(library)
        answers = [post(client, server.url) for _ in range(3)]
    assert [(a.status_code, a.content, a.headers["x-number"]) for a in answers] == [(200, GOOD, "1")] * 3
    assert server.connections == 1
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"x-mine: yes" in head
    assert b"\r\ncontent-length: 13" in head.lower()
    assert head.lower().count(b"host:") == 1
    assert body == b'{"model":"m"}'


def test_each_thread_has_a_connection_of_its_own(library):
    with wire(lambda client, number: bool(client.sendall(response(GOOD))) or True) as server:
        client = client_of(library)
        threads = [threading.Thread(target=lambda: [post(client, server.url) for _ in range(3)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (server.connections, len(server.requests)) == (4, 12)


@pytest.mark.parametrize("how", ["closed", "reset", "told"])
def test_a_connection_that_was_closed_while_idle_is_made_anew_without_a_failed_call(library, how):
    closed = threading.Semaphore(0)

    def play(client: socket.socket, number: int) -> bool:
        client.sendall(response(GOOD, *(["connection: close"] if how == "told" else [])))
        time.sleep(0.02)
        if how == "reset":
            reset(client)
        client.close()
        closed.release()
        return False

    with wire(play) as server:
        client = client_of(library)
        for _ in range(3):
            assert post(client, server.url).content == GOOD
            closed.acquire(timeout=5)
    assert server.connections == 3


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "RemoteProtocolError"),
        (response(GOOD)[:-4], "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{", "RemoteProtocolError"),
        (b"\x00\xff\x13no http at all", "RemoteProtocolError"),
    ],
    ids=["nothing", "half a header", "half a body", "half a chunk", "no chunk", "garbage"],
)
def test_what_ends_too_soon_is_an_error_of_the_protocol_and_the_next_call_is_whole(library, sent, error):
    def play(client: socket.socket, number: int) -> bool:
        client.sendall(response(GOOD) if number else sent)
        return bool(number)

    with wire(play) as server:
        client = client_of(library)
        with pytest.raises((library.RemoteProtocolError, library.ReadError)) as raised:
            post(client, server.url)
        assert type(raised.value).__name__ == error
        assert post(client, server.url).content == GOOD


def test_a_reset_is_a_read_error(library):
    def play(client: socket.socket, number: int) -> bool:
        client.sendall(response(GOOD)[:-4])
        time.sleep(0.05)
        reset(client)
        return False

    with wire(play) as server, pytest.raises(library.ReadError):
        post(client_of(library), server.url)


def test_nobody_there_is_a_connect_error(library):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(library.ConnectError):
        post(client_of(library), f"http://127.0.0.1:{port}/v1")


@pytest.mark.parametrize("close", [True, False], ids=["closing", "keeping"])
@pytest.mark.parametrize("what", ["nothing", "header", "body", "chunks"])
def test_an_answer_that_is_not_whole_in_time_is_a_timeout_however_it_drips(library, what, close):
    """Bytes come faster than the time-out and so never end a wait for the next one; the whole takes 4 s."""
    told = ["connection: close"] if close else []

    def play(client: socket.socket, number: int) -> bool:
        if what == "nothing":
            time.sleep(2)
        elif what == "header":
            drip(client, response(GOOD, f"x-long: {'y' * 60}", *told), 0.02)
        elif what == "body":
            client.sendall(response(b" " * 200, *told)[:-200])
            drip(client, b" " * 200, 0.02)
        else:
            more = "connection: close\r\n" if close else ""
            client.sendall(f"HTTP/1.1 200 OK\r\n{more}transfer-encoding: chunked\r\n\r\n".encode())
            drip(client, b"1\r\n \r\n" * 40, 0.02)
        return False

    with wire(play) as server:
        started = time.monotonic()
        with pytest.raises(library.ReadTimeout):
            post(client_of(library, 0.3), server.url)
        assert time.monotonic() - started < 1.5


def test_chunks_and_compression_are_read(library):
    packed = gzip.compress(GOOD)

    def play(client: socket.socket, number: int) -> bool:
        if number:
            client.sendall(response(packed, "content-encoding: gzip"))
        else:
            body = b"".join(b"%x\r\n%b\r\n" % (1, GOOD[i : i + 1]) for i in range(len(GOOD)))
            client.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n")
        return True

    with wire(play) as server:
        client = client_of(library)
        assert [post(client, server.url).content for _ in range(2)] == [GOOD, GOOD]
    assert server.connections == 1


def test_a_body_beyond_all_bounds_is_not_read_to_its_end(library, monkeypatch):
    monkeypatch.setattr(transport, "MOST_BYTES", 1 << 20)

    def play(client: socket.socket, number: int) -> bool:
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
        while True:
            client.sendall(bytes(1 << 16))

    with wire(play) as server, pytest.raises(library.RemoteProtocolError, match="larger than 1 MiB"):
        post(client_of(library), server.url)


def test_a_proxy_of_the_environment_is_used_and_exceptions_from_it_are_kept(library, monkeypatch):
    with wire(lambda client, number: bool(client.sendall(response(GOOD))) or True) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        transport._proxy_for.cache_clear()
        assert post(client_of(library), "http://models.example/v1").content == GOOD
        assert proxy.requests[0].startswith(b"POST http://models.example/v1/chat/completions HTTP/1.1\r\n")
        assert b'{"model":"m"}' in proxy.requests[0]
        with wire(lambda client, number: bool(client.sendall(response(GOOD))) or True) as server:
            assert post(client_of(library), server.url).content == GOOD
        assert (len(proxy.requests), len(server.requests)) == (1, 1)


def test_more_open_files_than_select_can_watch_are_no_matter(library):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1400:
        pytest.skip("this machine does not allow so many open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1400), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with wire(lambda client, number: bool(client.sendall(response(GOOD))) or True) as server:
            client = client_of(library)
            assert [post(client, server.url).content for _ in range(2)] == [GOOD, GOOD]
        assert server.connections == 1
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
