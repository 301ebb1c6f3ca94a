"""SHA-256 of files, taken by a thread while their rows pass: hashing lets go of the interpreter, so it costs no time."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.unchanged import Identity, identity

CHUNK = 4 << 20  # bytes


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
            digest, of = hashlib.sha256(), identity(file)
            try:
                with Path(file).open("rb", buffering=0) as handle:
                    while chunk := handle.read(CHUNK):
                        if self._stop.is_set():
                            return
                        digest.update(chunk)
            except OSError:  # whoever asks for it reads it again, and tells
                continue
            self._found[file] = digest.hexdigest(), of


@contextmanager
def hashing(files: Iterable[str]) -> Iterator[Digests]:
    """Hash ``files`` in the background of a block; what is not done when it ends badly is not waited for."""
    digests = Digests()
    digests.start(files)
    try:
        yield digests
    finally:
        digests.stop()
