"""One answer as a row of the file and back: request and body packed together, and a checksum over all of it."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any

from datakit.augment.answer import Stored
from registry.errors import UsageError

# What a row holds beside its number in the file, in this order.
COLUMNS = (
    "key",
    "created",
    "provider",
    "model",
    "status",
    "finish",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
    "attempts",
    "packed",
    "checksum",
)
KEY, STATUS, PACKED, CHECKSUM = (COLUMNS.index(name) for name in ("key", "status", "packed", "checksum"))
Row = tuple[Any, ...]

# Of 3.2 kB of request and 1.9 kB of body, packed as one: zlib 1 and zstd 1 leave 2.4 kB, zlib 6 5% less in twice the
# time. zstd packs in half the time, but is only there with pyarrow, whose import costs as much as packing 5,000 answers.
LEVEL = 1
CHECKSUM_BYTES = 8
MOST_BYTES = 1_000_000_000  # of one value in SQLite
MOST_COUNT = 2**62
_LENGTH = struct.Struct("<I")
_COUNTED = struct.Struct("<2d4q")


def to_row(stored: Stored) -> Row:
    """The values of ``COLUMNS``. Raises ``UsageError`` where the body is too large for SQLite (1 GB, packed)."""
    packed = zlib.compress(b"".join((_LENGTH.pack(len(stored.request)), stored.request, stored.body)), LEVEL)
    if len(packed) >= MOST_BYTES:
        raise UsageError(f"an answer of {len(stored.body):,} bytes is too large to be kept", where=stored.key)
    row = (
        bytes.fromhex(stored.key),
        _seconds(stored.created),
        _text(stored.provider),
        _text(stored.model),
        _count(stored.status),
        _text(stored.finish),
        _count(stored.prompt_tokens),
        _count(stored.completion_tokens),
        _seconds(stored.seconds),
        _count(stored.attempts),
        packed,
    )
    return (*row, checksum(row))


def from_row(row: Row) -> Stored | None:
    """The answer of a row; None where it does not match its checksum: what a damaged disk gives is never read."""
    try:
        if checksum(row[:CHECKSUM]) != row[CHECKSUM]:
            return None
        plain = zlib.decompress(row[PACKED])
    except (TypeError, struct.error, zlib.error):  # a flipped bit may also turn bytes into a number
        return None
    (length,) = _LENGTH.unpack_from(plain)
    body_at = _LENGTH.size + length
    key, created, provider, model, status, finish, asked, given, seconds, attempts = row[:PACKED]
    request, body = plain[_LENGTH.size : body_at], plain[body_at:]
    return Stored(
        key.hex(), request, body, provider, model, status, finish, asked, given, seconds, attempts, created=created
    )


def checksum(row: Row) -> bytes:
    """Eight bytes over all else in a row. Raises ``TypeError`` or ``struct.error`` where a value is of another kind."""
    digest = hashlib.blake2b(row[KEY], digest_size=CHECKSUM_BYTES)
    _, created, provider, model, status, finish, asked, given, seconds, attempts, packed = row
    digest.update(_COUNTED.pack(created, seconds, status, asked, given, attempts))
    digest.update(repr((provider, model, finish)).encode("utf-8", "surrogatepass"))
    digest.update(packed)
    return digest.digest()


# A server may send nonsense for what is only counted; a paid answer is kept all the same.


def _text(text: str) -> str:
    """Without halves of characters, which SQLite does not take."""
    return text.encode("utf-8", "replace").decode()


def _count(count: int) -> int:
    """Within 64 bits."""
    return max(-MOST_COUNT, min(int(count), MOST_COUNT))


def _seconds(seconds: float) -> float:
    """Finite, and without a sign on zero: SQLite keeps neither NaN nor -0.0."""
    return float(seconds) + 0.0 if abs(seconds) < MOST_COUNT else 0.0
