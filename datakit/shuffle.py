"""Lines into a random order in bounded memory: an exactly uniform permutation, or a uniform sample of it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO

WINDOW_BYTES = 256 << 20  # of lines held in memory at once, what Python adds to each included
BUCKETS = 64
BUFFER = 1 << 16  # bytes, of each temporary file
_OVERHEAD = 57 + 8  # bytes: a bytes object beside its content, and its place in a list
_KEY_BITS = 64
_KEY_DIGITS = _KEY_BITS // 4
_BUCKET_BITS = BUCKETS.bit_length() - 1


class Shuffle:
    """Takes lines in any number, and gives them back in the order of random keys, one drawn for each line as it comes.

    Sorting by keys that are independent and uniform makes every order equally likely (two of 64 bits are the same once
    in 10^19 pairs). The order depends on ``seed`` and the place of each line alone, not on what fits in memory: lines
    beyond ``window`` bytes are scattered over unnamed temporary files in ``folder`` by the first bits of their keys,
    and each file is sorted by itself. ``limit`` keeps the first so many of that order, which is a uniform sample.
    The temporary files take as much room as the lines. Raises ``OSError`` as the system gives it.
    """

    def __init__(
        self, seed: int, folder: Path | None = None, limit: int | None = None, *, window: int = WINDOW_BYTES
    ) -> None:
        self._rng = random.Random(seed)
        self._folder, self._limit, self._window = folder, limit, window
        self._held: list[bytes] = []
        self._size = 0
        self._buckets: list[_Bucket] = []
        self._files = ExitStack()
        self.taken = 0

    def __enter__(self) -> Shuffle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, line: bytes) -> None:
        """Take one line; it must hold no line break."""
        self.taken += 1
        self._held.append(b"%016x" % self._rng.getrandbits(_KEY_BITS) + line)
        self._size += len(line) + _KEY_DIGITS + _OVERHEAD
        if self._size <= self._window:
            return
        if self._limit is not None and len(self._held) >= 2 * self._limit:
            self._keep_first()
        if self._size > self._window:
            self._spill()

    def lines(self) -> Iterator[bytes]:
        """All lines (or the sample) in their order; afterwards nothing is left."""
        left = self.taken if self._limit is None else min(self.taken, self._limit)
        for line in self._sorted():
            if left == 0:
                return
            left -= 1
            yield line[_KEY_DIGITS:]

    def _keep_first(self) -> None:
        """Let go of what cannot be among the first ``limit`` any more."""
        self._held.sort()
        del self._held[self._limit :]
        self._size = sum(map(len, self._held)) + _OVERHEAD * len(self._held)

    def _spill(self) -> None:
        if not self._buckets:
            self._buckets = _open_buckets(self._files, self._folder)
        _scatter(self._held, self._buckets, level=0)
        self._held.clear()
        self._size = 0

    def _sorted(self) -> Iterator[bytes]:
        if self._buckets:
            self._spill()
            yield from _sorted_buckets(self._buckets, self._window, self._folder, level=1)
        else:
            self._held.sort()
            yield from self._held


@dataclass(slots=True)
class _Bucket:
    """One temporary file, and what its lines would take in memory."""

    file: IO[bytes]
    count: int = 0
    size: int = 0

    def write(self, lines: list[bytes]) -> None:
        self.file.write(b"\n".join(lines) + b"\n")
        self.count += len(lines)
        self.size += sum(map(len, lines)) + _OVERHEAD * len(lines)

    def lines(self) -> Iterator[bytes]:
        self.file.seek(0)
        return (line[:-1] for line in self.file)


def _open_buckets(files: ExitStack, folder: Path | None) -> list[_Bucket]:
    return [_Bucket(files.enter_context(tempfile.TemporaryFile(dir=folder, buffering=BUFFER))) for _ in range(BUCKETS)]


def _scatter(lines: Iterable[bytes], buckets: list[_Bucket], *, level: int) -> None:
    """Each keyed line into the bucket that its key says, by the bits behind those of ``level`` earlier scatterings."""
    shift = _KEY_BITS - _BUCKET_BITS * (level + 1)
    sorted_out: list[list[bytes]] = [[] for _ in buckets]
    for line in lines:
        sorted_out[int(line[:_KEY_DIGITS], 16) >> shift & (BUCKETS - 1)].append(line)
    for bucket, found in zip(buckets, sorted_out, strict=True):
        if found:
            bucket.write(found)


def _sorted_buckets(buckets: list[_Bucket], window: int, folder: Path | None, *, level: int) -> Iterator[bytes]:
    """The lines of all buckets in order; of one too large for memory, by scattering it once more."""
    deepest = level == _KEY_BITS // _BUCKET_BITS
    for bucket in buckets:
        if bucket.size <= window or bucket.count == 1 or deepest:
            yield from sorted(bucket.lines())
        else:
            with ExitStack() as files:
                inner = _open_buckets(files, folder)
                share = max(window * bucket.count // bucket.size, 1)  # lines that fit
                lines = bucket.lines()
                while piece := list(islice(lines, share)):
                    _scatter(piece, inner, level=level)
                yield from _sorted_buckets(inner, window, folder, level=level + 1)
        bucket.file.close()  # and its room on the disk is free again
