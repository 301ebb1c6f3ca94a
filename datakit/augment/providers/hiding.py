"""Keys out of what servers send back, before anything reads or keeps it: some repeat the header they were sent."""

from __future__ import annotations

SHOWN = b"[key]"
LEAST_CHARS = 16  # shorter keys are words such as "none" or "EMPTY", which an answer may well hold


def without_key(body: bytes, key: str) -> bytes:
    """``body`` with every ``key`` in it replaced."""
    return body.replace(key.encode(), SHOWN) if len(key) >= LEAST_CHARS else body
