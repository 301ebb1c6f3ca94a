"""The files that one output consists of, opened one after another: one, or shards; plain, or compressed by their ending."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from datakit.targets import Target
from datakit.together import Together


class Parts:
    """Hands out the next file of an output; the one before it is complete, on the disk and closed by then."""

    def __init__(self, target: Target, files: Together, shard_rows: int | None = None) -> None:
        self.name, self.shard_rows = target.name, shard_rows
        self._scratch = target.scratch
        self.names: list[str] = []  # of the files that were begun
        self._next_names = target.files()
        self._files = files
        self._compression = ExitStack()

    def scratch(self) -> Path | None:
        """The folder for temporary files, made where it is not there; None is the system's own."""
        if self._scratch is not None:
            self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch

    def next(self) -> IO[bytes]:
        """Begin the next file. Raises ``OSError``, also for what is left to write of the one before."""
        self.close()
        name = next(self._next_names)
        self.names.append(name)
        return self._compression.enter_context(_compressed(self._files.open(name), Path(name).suffix.lower()))

    def close(self) -> None:
        """Complete the file that was begun last."""
        self._compression.close()
        if self.names:
            self._files.settle(self.names[-1])

    def abandon(self) -> None:
        """Let go of the file at hand, which will get no name."""
        with suppress(Exception):  # what failed to be written fails again
            self._compression.close()


@contextmanager
def _compressed(handle: IO[bytes], ending: str) -> Iterator[IO[bytes]]:
    if ending == ".gz":
        # No name and no time inside, so that the same rows give the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=handle, mtime=0) as packed:
            yield cast(IO[bytes], packed)
    elif ending == ".zst":
        import pyarrow as pa

        with pa.CompressedOutputStream(pa.PythonFile(_KeptOpen(handle), "w"), "zstd") as packed:
            yield packed
    else:
        yield handle


class _KeptOpen:
    """A file as pyarrow writes to it, whose closing is left to the one who opened it."""

    closed = False

    def __init__(self, handle: IO[bytes]) -> None:
        self.write, self.flush = handle.write, handle.flush

    def close(self) -> None:
        pass
