"""Files and folders that appear whole or not at all: temporary name beside the target, flush, fsync, rename."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson

TEMPORARY_MARK = ".tmp-"


def temporary_name(target: Path) -> Path:
    """A hidden name beside ``target``, on the same file system, that no other process uses."""
    return target.with_name(f".{target.name}{TEMPORARY_MARK}{os.getpid()}-{uuid.uuid4().hex[:8]}")


@contextmanager
def atomic_file(target: str | Path, mode: str = "wb", **open_options: Any) -> Iterator[IO[Any]]:
    """Open a temporary file that becomes ``target`` when the block ends well, and vanishes when it does not.

    Raises ``OSError`` as the system gives it; the previous ``target`` is then untouched.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(target)
    try:
        with temporary.open(mode, **open_options) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(target.parent)


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Fill a temporary folder that becomes ``target`` when the block ends well; an older ``target`` is replaced.

    A folder cannot be swapped in one system call, so an older one is moved aside first and removed last. A failure
    between the two renames moves it back; a power cut there leaves it under its hidden name, never a mixture.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(target)
    temporary.mkdir()
    old = None
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            if path.is_file():
                fsync_path(path)
        if target.exists():
            old = temporary_name(target)
            os.replace(target, old)
        os.replace(temporary, target)
    except BaseException:
        if old is not None and old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_folder(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def write_json(target: str | Path, value: Any, *, sort_keys: bool = False) -> None:
    """Write ``value`` as indented UTF-8 JSON, whole or not at all."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | (orjson.OPT_SORT_KEYS if sort_keys else 0)
    with atomic_file(target) as handle:
        handle.write(orjson.dumps(value, option=options))


def fsync_path(path: Path) -> None:
    """Make a file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable; a no-op where folders cannot be opened (Windows)."""
    if os.name == "posix":
        fsync_path(folder)
