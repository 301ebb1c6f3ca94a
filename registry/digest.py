"""SHA-256 of files, taken by a thread while their rows pass: hashing lets go of the interpreter, so it costs no time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry.unchanged import Identity, identity

CHUNK = 1 << 18  # bytes; what stays in a core's cache between reading and hashing
SYNC_EVERY = 64 << 20  # bytes of a file that is being written, until they are brought to the disk
PAUSE = 0.05  # seconds until a file is looked at again for more


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class Digests:
    """Hashes of files, asked for when they are needed; a file that was not read ahead is read then."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, Identity | None]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, files: Iterable[str]) -> None:
        """Begin with ``files``, in order, in a thread that ends with the process."""
        self._thread = threading.Thread(target=self._run, args=([*dict.fromkeys(files)],), daemon=True, name="digest")
        self._thread.start()

    def of(self, file: str) -> str:
        """The hash of one file. Raises ``OSError`` where it cannot be read."""
        if self._thread is not None:
            self._thread.join()
        found, of = self._found.get(file, ("", None))
        # What changed since is hashed as it is now: whoever read it made sure that it did not change meanwhile.
        return found if found and of == identity(file) else sha256_of(file)

    def stop(self) -> None:
        """Let go of what is not hashed yet."""
        self._stop.set()

    def _run(self, files: Iterable[str]) -> None:
        for file in files:
            digest, of, buffer = hashlib.sha256(), identity(file), memoryview(bytearray(CHUNK))
            try:
                with Path(file).open("rb", buffering=0) as handle:
                    while got := handle.readinto(buffer):
                        if self._stop.is_set():
                            return
                        digest.update(buffer[:got])
            except OSError:  # whoever asks for it reads it again, and tells
                continue
            self._found[file] = digest.hexdigest(), of


class Following:
    """The SHA-256 of a file, and the way of its bytes to the disk, while somebody else still writes it from its start
    to its end. What is left to do once it is complete is the last megabytes."""

    def __init__(self, file: str | Path) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._hashed = 0  # bytes
        self._complete, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="follow")
        self._thread.start()

    def complete(self) -> None:
        """All bytes are written, as far as other readers of the file are concerned."""
        self._complete.set()

    def stop(self) -> None:
        """The file is not wanted any more."""
        self._stop.set()
        self._complete.set()

    def sha256(self) -> str:
        """The hash of the complete file, in hex. Raises ``OSError`` where it cannot be read."""
        self._complete.set()
        self._thread.join()
        whole = Path(self._file).stat().st_size == self._hashed
        return self._digest.hexdigest() if whole else sha256_of(self._file)

    def _run(self) -> None:
        buffer, synced = memoryview(bytearray(CHUNK)), 0
        with suppress(OSError), Path(self._file).open("rb", buffering=0) as handle:
            while not self._stop.is_set():
                complete = self._complete.is_set()  # asked before reading: what was written until then is seen
                got = handle.readinto(buffer)
                if got:
                    self._digest.update(buffer[:got])
                    self._hashed += got
                elif complete:
                    return
                else:
                    self._complete.wait(PAUSE)
                if self._hashed - synced >= SYNC_EVERY:
                    os.fsync(handle.fileno())
                    synced = self._hashed


@contextmanager
def hashing(files: Iterable[str]) -> Iterator[Digests]:
    """Hash ``files`` in the background of a block; what is not done when it ends badly is not waited for."""
    digests = Digests()
    digests.start(files)
    try:
        yield digests
    finally:
        digests.stop()
