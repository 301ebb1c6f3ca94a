"""Files behind fsspec: object stores and servers, listed and read in blocks of bounded size."""

from __future__ import annotations

import glob
import hashlib
import io
import logging
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from registry.errors import TunekitError, UsageError, did_you_mean, from_os_error
from registry.folders import CONTAINERS, container_of, data_files, is_sidecar, of_one_kind

log = logging.getLogger("tunekit")

INSTALL = 'pip install "tunekit[cloud]"'
BLOCK = 8 << 20  # bytes fetched, and held, at a time
# What a store says of an object's content, best first; as `fsspec` passes it on from S3, GCS, Azure, HTTP.
_PINS = ("ETag", "etag", "md5Hash", "crc32c", "generation", "content_md5", "checksum")
_WEB = ("http", "https")
_found: set[str] = set()  # files that were looked up already in this process
_with_secrets: dict[str, str] = {}  # address as it is shown -> as it was given: signatures and passwords stay in memory


def check(url: str) -> None:
    """Raise ``UsageError`` where no file system is known, or installed, for an address."""
    filesystem(url)


def filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system behind an address, and the path in it. Raises ``UsageError``.

    Credentials and endpoints are found as its library finds them (``AWS_…``, ``GOOGLE_APPLICATION_CREDENTIALS``,
    ``FSSPEC_S3_ENDPOINT_URL`` …).
    """
    try:
        import fsspec
    except ImportError:
        raise UsageError("this needs fsspec, which is not installed", where=shown(url), mend=INSTALL) from None
    scheme = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(_with_secrets.get(url, url), **options)
    except ImportError as error:
        raise UsageError(f"{scheme}:// cannot be opened: {error}", where=shown(url), mend=INSTALL) from None
    except ValueError as error:
        known = ["hf", "ms", "s3", "gs", "https", *fsspec.available_protocols()]
        mend = did_you_mean(scheme, known) or "Known among others: hf:// ms:// s3:// gs:// https://"
        raise UsageError(str(error), where=shown(url), mend=mend) from None


def shown(url: str) -> str:
    """An address without password and signature, as it may be printed and written down."""
    parts = urlsplit(url)
    if "@" not in parts.netloc and not (parts.query and parts.scheme in _WEB):
        return url
    user, at, host = parts.netloc.rpartition("@")
    query = "" if parts.scheme in _WEB else parts.query
    clean = urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query=query))
    if clean != url:
        _with_secrets[clean] = url
    return clean


def expand(url: str) -> list[str]:
    """The data files behind an address: one, those of a folder (one level), or those of a pattern. Raises ``UsageError``."""
    clean = shown(url)
    if clean in _found:
        return [clean]
    fs, path = filesystem(clean)
    with faults_of(clean, "listing"):
        files = _files_at(fs, path, clean)
    _found.update(files)
    return files


def _files_at(fs: Any, path: str, where: str) -> list[str]:
    on_web = where.startswith(_WEB)  # which has neither folders nor patterns: ? and * are signs like others there
    if glob.has_magic(path) and not on_web and not fs.exists(path):
        matches = fs.glob(path)
        found = [n for n in matches if container_of(n)] if is_sidecar(where) else data_files(matches)
        if not found:
            raise UsageError("no data file matches this pattern", where=where)
        return sorted(fs.unstrip_protocol(name) for name in found)
    if fs.info(path)["type"] == "directory":
        return _folder(fs, path, where)
    if container_of(where) is None:
        raise UsageError(
            f'"{posixpath.splitext(where)[1]}" is not a kind of file that is read here',
            where=where,
            mend=f"Known endings: {' '.join(CONTAINERS)}, each also with .gz or .zst.",
        )
    return [where]


def _folder(fs: Any, path: str, where: str) -> list[str]:
    names = [entry["name"] for entry in fs.ls(path, detail=True) if entry["type"] == "file"]
    return [fs.unstrip_protocol(name) for name in of_one_kind(data_files(names), where)]


@contextmanager
def faults_of(where: str, doing: str) -> Iterator[None]:
    """Make whatever a store's library raises one of our errors, which says where and during what it was."""
    try:
        yield
    except TunekitError:
        raise
    except FileNotFoundError as error:  # the HTTP file system says so of a server that does not answer, too
        why = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
        raise UsageError(f"no such file or folder{why}", where=where) from None
    except Exception as error:  # botocore, aiohttp, google-auth: errors of many families
        if isinstance(error, OSError) and error.errno and not isinstance(error, PermissionError):
            raise from_os_error(error, f"{doing} {where}") from error
        lines = str(error).strip().splitlines()
        raise UsageError(
            f"cannot go on {doing}: {type(error).__name__}{': ' + lines[0][:200] if lines else ''}",
            where=where,
            mend=_way_in(where, error),
        ) from error


def _way_in(where: str, error: Exception) -> str | None:
    if not re.search(
        "credential|permission|forbidden|denied|401|403", f"{type(error).__name__} {error}", re.IGNORECASE
    ):
        return None
    if where.startswith("s3"):
        return (
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE); FSSPEC_S3_ANON=true for a public bucket."
        )
    if where.startswith(("gs", "gcs")):
        return "Set GOOGLE_APPLICATION_CREDENTIALS, or run: gcloud auth application-default login"
    return "Check the credentials for it."


class _Blocks(io.RawIOBase):
    """A remote file as Python's own buffers read it, whose faults are ours."""

    def __init__(self, url: str) -> None:
        self._url = url
        fs, path = filesystem(url)
        with faults_of(url, "opening"):
            self._file = fs.open(path, "rb", block_size=BLOCK, cache_type="readahead")
        self._seekable = _can_seek(self._file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable

    def readinto(self, buffer: Any) -> int:
        with faults_of(self._url, "reading"):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with faults_of(self._url, "reading"):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _can_seek(file: Any) -> bool:
    """Whether one can move about in ``file``; what a web server streams says so of itself, and cannot."""
    try:
        file.seek(0, io.SEEK_END)
        file.seek(0)
    except (OSError, ValueError, NotImplementedError):
        return False
    return True


def open_bytes(url: str) -> io.BufferedReader:
    """Open a file for reading, at most two blocks of it in memory. Raises ``UsageError``."""
    return io.BufferedReader(_Blocks(url), 1 << 18)


def fingerprint(url: str) -> dict[str, Any]:
    """``bytes`` and what pins the content of a file. Raises ``UsageError``. See ``registry.remote.fingerprint``."""
    fs, path = filesystem(url)
    with faults_of(url, "looking at"):
        info = fs.info(path)
    size = info.get("size")
    for key in _PINS:
        if size is not None and info.get(key):
            return {"bytes": size, "etag" if key in ("ETag", "etag") else key: str(info[key]).strip('"')}
    with open_bytes(url) as opened:
        digest = hashlib.sha256()
        size = 0
        while block := opened.read(BLOCK):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}
