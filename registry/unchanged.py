"""Whether a file stays what it was while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.errors import UsageError

Identity = tuple[int, int, int]


@contextmanager
def unchanged(file: str) -> Iterator[None]:
    """Raise ``UsageError`` where ``file`` grew, was cut, written again, replaced or removed within the block.

    Rows of such a file are of two states at once, and the hash in the manifest would be of neither. What fails within
    the block because of it is told as the change. Stdin and addresses are not looked at.
    """
    before = identity(file)
    try:
        yield
    except UsageError as error:
        if (what := _change(before, identity(file))) is not None:
            raise _changed(file, what) from error
        raise
    check_unchanged(file, before)


def check_unchanged(file: str, before: Identity | None) -> None:
    """Raise ``UsageError`` where ``file`` is not what its ``identity`` was ``before``."""
    if (what := _change(before, identity(file))) is not None:
        raise _changed(file, what)


def identity(file: str) -> Identity | None:
    """What tells a file from what it was before: size, time of the last change and number; None where it is no file."""
    try:
        found = Path(file).stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _change(before: Identity | None, after: Identity | None) -> str | None:
    if before is None or before == after:
        return None
    if after is None:
        return "it was removed"
    if before[2] != after[2]:
        return "another file took its place"
    if before[0] != after[0]:
        return f"it {'grew' if after[0] > before[0] else 'shrank'} from {before[0]:,} to {after[0]:,} bytes"
    return "it was written again"


def _changed(file: str, what: str) -> UsageError:
    return UsageError(
        f"the file changed while it was read: {what}", where=file, mend="Wait until it is complete, or read a copy."
    )
