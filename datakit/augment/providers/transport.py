"""The way to a server under the SDKs: one kept connection a thread, a limit on the whole time, and on the size.

The SDKs' own pools are shared by all threads and looked through at every request: with 512 threads on 2 cores they gave
15 to 300 requests a second. A connection that only its own thread knows needs no pool: 460 a second, at 1.5 ms of CPU
each, the SDK included, and at a third of that without it (``benchmarks/augment.py``).
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

CONNECT_S = 20.0  # to reach a server
MOST_BYTES = 64 << 20  # of one answer
_PIECE = 1 << 16
_OF_ONE = {b"idempotency-key"}  # headers that belong to a single request
_OURS = {b"host", b"content-length", b"transfer-encoding", b"connection", b"accept-encoding"}


class TooLarge(Exception):
    """The body is larger than any answer may be."""


class _Kept:
    """The connection of one thread to one server."""

    def __init__(self, scheme: str, host: str, port: int | None) -> None:
        if scheme == "https":
            self.connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=CONNECT_S, context=tls()
            )
        else:
            self.connection = http.client.HTTPConnection(host, port, timeout=CONNECT_S)

    def ready(self, timeout_s: float) -> http.client.HTTPConnection:
        """The connection, made anew within that time where the server closed it while it lay idle."""
        if self.connection.sock is not None and _has_news(self.connection.sock):
            self.connection.close()
        if self.connection.sock is None:
            self.connection.timeout = min(CONNECT_S, timeout_s)
            try:
                self.connection.connect()
            except BaseException:
                self.connection.close()  # half open it would pass for one that lies idle
                raise
            assert self.connection.sock is not None  # as connect() came back
            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.connection


def _has_news(sock: socket.socket) -> bool:
    """Whether something, the end included, came on a connection that waits for nothing."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


@cache
def tls() -> ssl.SSLContext:
    """One for all connections: making it reads the certificates of the system, 20 ms each time."""
    try:
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except ImportError:
        return ssl.create_default_context()


def lean_transport(library: Any) -> Any:
    """A transport for ``library``, which is ``httpx`` or ``httpx2``: both SDKs' clients take one.

    A body that does not come to its end in the request's read timeout, counted from the beginning, raises the library's
    ``ReadTimeout``; connections that break raise its ``ConnectError``, ``ReadError`` or ``RemoteProtocolError``. Where
    the system names a proxy for the address, the library's own transport is used.
    """
    local = threading.local()

    class Lean(library.BaseTransport):
        def handle_request(self, request: Any) -> Any:
            if _proxy_for(str(request.url.scheme), str(request.url.host)):
                return self._proxied(request)
            place = (request.url.scheme, request.url.host, request.url.port)
            timeout = request.extensions.get("timeout", {}).get("read") or 600.0
            return self._ask(_kept(*place), request, timeout)

        def _ask(self, kept: _Kept, request: Any, timeout_s: float) -> Any:
            deadline = time.monotonic() + timeout_s
            try:
                connection = kept.ready(timeout_s)
            except TimeoutError as error:
                raise library.ConnectTimeout(str(error), request=request) from error
            except OSError as error:
                kept.connection.close()
                raise library.ConnectError(str(error), request=request) from error
            try:
                _wait_until(connection, deadline)
                headers = {k.decode(): v.decode() for k, v in request.headers.raw if k.lower() not in _OURS}
                path = request.url.raw_path.decode()
                status, told, body = _exchange(connection, request.method, path, request.read(), headers, deadline)
            except TimeoutError as error:
                connection.close()
                raise library.ReadTimeout("no whole answer in time", request=request) from error
            except (http.client.HTTPException, TooLarge) as error:
                connection.close()
                what = str(error) or type(error).__name__
                raise library.RemoteProtocolError(what, request=request) from error
            except OSError as error:
                connection.close()
                raise library.ReadError(str(error), request=request) from error
            except BaseException:
                connection.close()
                raise
            return library.Response(status, headers=told, content=body)

        def _proxied(self, request: Any) -> Any:
            own = getattr(local, "own", None)
            if own is None:
                own = local.own = library.Client(trust_env=True)
            timeout = request.extensions.get("timeout", {})
            return own.send(
                own.build_request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    content=request.read(),
                    timeout=library.Timeout(timeout.get("read"), connect=CONNECT_S),
                )
            )

    return Lean()


_local = threading.local()


def _kept(scheme: str, host: str, port: int | None) -> _Kept:
    """This thread's connection to a server."""
    kept = getattr(_local, "kept", None)
    if kept is None:
        kept = _local.kept = {}
    if (scheme, host, port) not in kept:
        kept[scheme, host, port] = _Kept(scheme, host, port)
    return kept[scheme, host, port]


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    deadline: float,
) -> tuple[int, list[tuple[str, str]], bytes]:
    """One request and its whole answer: status, headers, body."""
    connection.request(method, path, body, headers)
    connection.response_class = partial(_Response, deadline=deadline)  # type: ignore[assignment]
    answer = connection.getresponse()
    return answer.status, answer.getheaders(), _read(answer)


@dataclass(frozen=True)
class Letter:
    """A POST that is always the same but for its body: the address in parts, and the headers."""

    scheme: str
    host: str
    port: int | None
    path: str
    headers: Mapping[str, str] = field(repr=False)  # the key is among them

    @property
    def place(self) -> str:
        """Host and port, for people."""
        return f"{self.host}:{self.port}" if self.port else self.host

    def send(self, body: bytes, timeout_s: float) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by small names, and body. Raises ``TimeoutError``, ``OSError`` and ``ConnectionError`` (which
        an answer that is no HTTP, or too large, is told as)."""
        kept = _kept(self.scheme, self.host, self.port)
        deadline = time.monotonic() + timeout_s
        try:
            connection = kept.ready(timeout_s)
            _wait_until(connection, deadline)
            status, headers, answer = _exchange(connection, "POST", self.path, body, self.headers, deadline)
        except (http.client.HTTPException, TooLarge) as error:
            kept.connection.close()
            raise ConnectionError(
                f"{self.place}: {error}" if str(error) else f"{self.place}: {type(error).__name__}"
            ) from error
        except TimeoutError:
            kept.connection.close()
            raise
        except OSError as error:
            kept.connection.close()
            raise ConnectionError(f"{self.place}: {error}") from error
        except BaseException:
            kept.connection.close()
            raise
        return status, {name.lower(): value for name, value in headers}, answer


def letter_like(request: Any) -> Letter | None:
    """The letter for requests like this one, which an SDK made; None where a proxy stands in between."""
    url = request.url
    if _proxy_for(str(url.scheme), str(url.host)):
        return None
    headers = {k.decode(): v.decode() for k, v in request.headers.raw if k.lower() not in _OURS | _OF_ONE}
    return Letter(url.scheme, url.host, url.port, url.raw_path.decode(), headers)


def _wait_until(connection: http.client.HTTPConnection, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    if connection.sock is not None:
        connection.sock.settimeout(left)


class _UntilDeadline(io.RawIOBase):
    """The bytes of a socket until a moment: a time-out alone begins anew with each byte that drips in."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self._raw, self._sock, self._deadline = raw, sock, deadline
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        self.ended = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response whose header and body both have to come before the deadline."""

    def __init__(self, sock: socket.socket, *arguments: Any, deadline: float, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._bytes = _UntilDeadline(self.fp.detach(), sock, deadline)
        self.fp = io.BufferedReader(self._bytes)

    def begin(self) -> None:
        super().begin()
        if self._bytes.ended:  # half a header would pass for a whole one
            raise http.client.RemoteDisconnected("the connection ended within the header")


def _read(answer: http.client.HTTPResponse) -> bytes:
    """The whole body. Raises ``TimeoutError`` past the deadline, ``IncompleteRead`` where it ends too soon."""
    pieces: list[bytes] = []
    size = 0
    while True:
        piece = answer.read1(_PIECE)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            raise TooLarge(f"the answer is larger than {MOST_BYTES >> 20} MiB")
    if answer.length:  # read1 ends without a word where the connection does
        raise http.client.IncompleteRead(b"", answer.length)
    answer.close()  # the connection takes no other request before
    return b"".join(pieces)


@cache
def _proxy_for(scheme: str, host: str) -> bool:
    proxies = urllib.request.getproxies()
    return bool((proxies.get(scheme) or proxies.get("all")) and not urllib.request.proxy_bypass(host))
