"""A server of raw bytes for tests of the wire: each connection plays a script of pieces, waits and closes."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Play = Callable[[socket.socket], None]


@dataclass
class Wire:
    """What came: how many connections, and the requests of all of them in order."""

    port: int
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def wire(play: Callable[[socket.socket, int], bool]) -> Iterator[Wire]:
    """Listens for as long as the block lasts. ``play(client, number)`` answers request ``number`` (from 0, over all
    connections) and says whether the connection stays open for another one."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    seen = Wire(listener.getsockname()[1])

    def serve(client: socket.socket) -> None:
        with client:
            while (request := read_request(client)) is not None:
                seen.requests.append(request)
                try:
                    if not play(client, len(seen.requests) - 1):
                        return
                except OSError:  # the client left
                    return

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            seen.connections += 1
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def read_request(client: socket.socket) -> bytes | None:
    """One request with its body; None where the client closes."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            piece = client.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        while len(body) < length:
            body += client.recv(65536)
    except OSError:
        return None
    return head + b"\r\n\r\n" + body


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """One whole response."""
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def drip(client: socket.socket, data: bytes, every_s: float) -> None:
    """One byte after another."""
    for byte in data:
        client.sendall(bytes([byte]))
        time.sleep(every_s)


def reset(client: socket.socket) -> None:
    """Close with a reset instead of an end."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
