"""What SRC on a command line means, and how the bytes behind each of its files are read."""

from __future__ import annotations

import glob
import gzip
import io
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from registry import remote
from registry.errors import UsageError, from_os_error, nearest
from registry.folders import COMPRESSIONS as COMPRESSIONS
from registry.folders import CONTAINERS as CONTAINERS
from registry.folders import SIDECARS as SIDECARS
from registry.folders import check_readable, files_of_folder, files_of_pattern
from registry.folders import container_of as container_of

log = logging.getLogger("tunekit")

STDIN = "-"
BUFFER = 1 << 18  # bytes read at a time
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE_ZSTD = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # pzstd and zstd --seekable begin with such a frame


def expand_sources(sources: Iterable[str | Path], *, warn: bool = True) -> list[str]:
    """The files behind files, folders, globs, ``-`` (stdin) and addresses, each source's own files in sorted order.

    A file comes as a path, or as an address that is opened as it is: ``hf://org/name@commit/path``, ``s3://bucket/key``;
    files that come out of here go in again unchanged. Hidden files and sidecars (manifests, rejects,
    ``dataset_info.json``) in folders are passed over. ``warn`` tells of files that are named more than once.
    Raises ``UsageError`` for what does not exist, holds no data, or mixes containers in one folder.
    """
    files = [file for source in map(remote.spelled, sources) for file in _files_of(source)]
    if files.count(STDIN) > 1:
        raise UsageError("stdin can be read once only", where=STDIN)
    if warn:
        _warn_of_twins(files)
    return files


def check_sources(sources: Iterable[str | Path]) -> None:
    """Raise ``UsageError`` for what ``expand_sources`` would refuse, as far as it shows without the network."""
    for source in map(remote.spelled, sources):
        if remote.is_remote(source):
            remote.check(source)
        else:
            _files_of(source)


def _files_of(source: str) -> list[str]:
    if not source:  # an unset variable of a shell; as a path it would be the folder one is in
        raise UsageError("a source has an empty name")
    if source == STDIN:
        return [source]
    if remote.is_remote(source):
        return remote.expand(source)
    path = Path(source)
    if path.is_dir():
        return files_of_folder(path)
    if path.exists() or path.is_symlink():
        check_readable(path)
        if container_of(path) is None:
            raise UsageError(
                f'"{path.suffix}" is not a kind of file that is read here',
                where=source,
                mend=f"Known endings: {' '.join(CONTAINERS)}, each also with .gz or .zst.",
            )
        return [source]
    if glob.has_magic(source):
        return files_of_pattern(source)
    raise UsageError("no such file or folder", where=source, mend=_near_files(path))


def _near_files(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either."
    close = nearest(path.name, [p.name for p in path.parent.iterdir()])
    return f"Near it: {', '.join(close)}" if close else None


def _warn_of_twins(files: Iterable[str]) -> None:
    """Tell of files that are named twice, also by way of a link: their rows are read as often as they are named."""
    names: dict[str, list[str]] = {}
    for file in files:
        same = file if remote.is_remote(file) else os.path.realpath(file)
        names.setdefault(same, []).append(file)
    for twins in names.values():
        if len(twins) > 1:
            others = f" ({', '.join(dict.fromkeys(twins))})" if len(set(twins)) > 1 else ""
            log.warning("%s is named %d times%s, and its rows are read each time", twins[0], len(twins), others)


def local_path(file: str) -> str | None:
    """Where the bytes of ``file`` lie on this machine: itself, or a hub's file in its cache, downloaded if need be.

    None for stdin, and for what is streamed (``s3://`` and the like). Raises ``UsageError``.
    """
    if remote.is_remote(file):
        return remote.downloaded(file)
    return None if file == STDIN else file


def open_binary(file: str) -> io.BufferedReader:
    """Open a file (or stdin for ``-``) for reading bytes, decompressed as its first bytes say. Raises ``UsageError``.

    gzip of several members and zstd of several frames are read to their end.
    """
    try:
        return _decompressed(_open_raw(file), file)
    except OSError as error:
        raise from_os_error(error, "opening a source") from error


def _open_raw(file: str) -> io.BufferedReader:
    if file == STDIN:
        if sys.stdin is None:
            raise UsageError("stdin is closed", where=STDIN)
        if sys.stdin.isatty():
            log.info("reading rows from the terminal; end with Ctrl-D")
        stream = sys.stdin.buffer
        return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, stream))
    path = local_path(file)
    if path is None:
        return remote.open_bytes(file)
    return cast(io.BufferedReader, Path(path).open("rb", buffering=BUFFER))


def _decompressed(raw: io.BufferedReader, file: str) -> io.BufferedReader:
    head = raw.peek(16)[:16]
    named = Path(file).suffix.lower() if file != STDIN else ""
    found = ".gz" if head.startswith(GZIP_MAGIC) else ".zst" if _is_zstd(head) else ""
    if found and named != found and file != STDIN:
        log.warning("%s is compressed (%s), though its name does not say so", file, found)
    if named in COMPRESSIONS and head and not found:
        raise UsageError(
            f"this is named {named} and is not compressed so",
            where=file,
            mend=f"Rename it without {named}, or fetch it again.",
        )
    if found == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw, mode="rb"), BUFFER)
    if found == ".zst":
        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
        return io.BufferedReader(cast(io.RawIOBase, stream), BUFFER)
    return raw


def _is_zstd(head: bytes) -> bool:
    return head.startswith(ZSTD_MAGIC) or _SKIPPABLE_ZSTD.match(head) is not None


def open_seekable(file: str) -> str | BinaryIO:
    """What readers of Parquet and Arrow take: a path, or an open file in which one can move about. Raises ``UsageError``.

    What is compressed as a whole (``.parquet.gz``), and what comes from a server that gives no ranges, is unpacked
    into an unnamed temporary file first.
    """
    path = local_path(file)
    packed = Path(file).suffix.lower() in COMPRESSIONS
    if path is not None and not packed:
        return path
    try:
        opened = open_binary(file) if packed else remote.open_bytes(file)
        if opened.seekable() and not packed:
            return cast(BinaryIO, opened)
        unpacked = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  # closed with its reader
        with opened:
            shutil.copyfileobj(opened, unpacked, BUFFER)
        unpacked.seek(0)
    except OSError as error:
        raise from_os_error(error, f"reading {file}") from error
    return unpacked
