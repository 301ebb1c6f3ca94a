"""HTTP/1.1 on an asyncio protocol: one request at a time, keep-alive, bodies by Content-Length."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.datakit.faults.asked import After
from tests.datakit.faults.bodies import http, openai_error

MOST_HEAD, MOST_BODY = 64 * 1024, 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; names of headers in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One client. ``handle`` is called with each request and must see to it that ``send`` is called once for it.

    ``left`` is called when the client is gone, with whether a request was still owed its reply.
    """

    __slots__ = ("_buffer", "_busy", "_closing", "_handle", "_head", "_left", "gone", "owed", "transport")

    def __init__(self, handle: Callable[[Connection, Request], None], left: Callable[[Connection, Any], None]) -> None:
        self._handle, self._left = handle, left
        self._buffer = bytearray()
        self._head: tuple[str, str, str, dict[str, str], int] | None = None
        self._busy = self._closing = self.gone = False
        self.owed: Any = None  # what the server remembers of the request it works on
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        owed, self.owed = self.owed, None
        self._left(self, owed)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        if self._head is None and not self._read_head():
            return
        assert self._head is not None
        method, path, query, headers, length = self._head
        if len(self._buffer) < length:
            return
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head, self._busy = None, True
        self._closing = headers.get("connection", "").lower() == "close"
        self._handle(self, Request(method, path, query, headers, body))

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MOST_HEAD:
                self._refuse(431, "The header is too long.")
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        first = lines[0].split(" ")
        if len(first) != 3 or not first[2].startswith("HTTP/1."):
            self._refuse(400, "This is no HTTP/1.1 request.")
            return False
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal():
            self._refuse(411, "Send the body with a Content-Length.")
            return False
        if int(length) > MOST_BODY:
            self._refuse(413, "The body is too long.")
            return False
        path, _, query = first[1].partition("?")
        self._head = first[0], path, query, headers, int(length)
        if headers.get("expect", "").lower() == "100-continue" and len(self._buffer) < int(length):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _refuse(self, status: int, message: str) -> None:
        self._busy = True
        self.send(http(status, openai_error(message, "invalid_request_error")), "close")

    def write(self, data: bytes) -> None:
        """A piece of a reply."""
        self.transport.write(data)

    def send(self, data: bytes, after: After = "keep") -> None:
        """The rest of a reply, and what becomes of the connection; the next request is taken up if there is one."""
        if data:
            self.transport.write(data)
        if after == "hang":
            return
        self.owed = None
        if after == "reset":
            self._reset()
        elif after == "close" or self._closing:
            self.transport.close()
        else:
            self._busy = False
            if self._buffer:
                self._next()

    def _reset(self) -> None:
        """Close so that the client gets a reset instead of an orderly end."""
        sock: socket.socket = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
