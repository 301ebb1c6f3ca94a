"""What SRC on a command line means: files, folders and globs in sorted order, and the container each file is."""

from __future__ import annotations

import glob
import gzip
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from registry.errors import UsageError, from_os_error, nearest

log = logging.getLogger("tunekit")

STDIN = "-"
CONTAINERS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "txt",
}
COMPRESSIONS = (".gz", ".zst")
# What our own commands and LLaMA-Factory leave beside the data; never rows themselves.
SIDECARS = (".manifest.json", ".rejects.jsonl", "dataset_info.json")


def container_of(path: str | Path) -> str | None:
    """``"jsonl"``, ``"parquet"`` … by the file's ending (``.gz`` and ``.zst`` looked through); None if unknown."""
    name = Path(path)
    if name.suffix.lower() in COMPRESSIONS:
        name = name.with_suffix("")
    return CONTAINERS.get(name.suffix.lower())


def expand_sources(sources: Iterable[str | Path]) -> list[str]:
    """The files behind files, folders, globs and ``-`` (stdin), each source's own files in sorted order.

    Hidden files and sidecars (manifests, rejects, ``dataset_info.json``) in folders are passed over.
    Raises ``UsageError`` for what does not exist, holds no data, or mixes containers in one folder.
    """
    files: list[str] = []
    for source in map(str, sources):
        path = Path(source)
        if not source:  # an unset variable of a shell; as a path it would be the folder one is in
            raise UsageError("a source has an empty name")
        if source == STDIN:
            files.append(source)
        elif source.startswith(("hf://", "ms://", "s3://", "gs://", "http://", "https://")):
            raise UsageError("remote sources are not read yet", where=source, mend="Download it and name the file.")
        elif path.is_dir():
            files += _files_of_folder(path)
        elif path.exists() and not path.is_file():  # it can be read once only, and its hash is taken after its rows
            raise UsageError(
                "this is a pipe or a device, a file is needed", where=source, mend="Send its rows to stdin, named as  -"
            )
        elif path.exists():
            if container_of(path) is None:
                raise UsageError(
                    f'"{path.suffix}" is not a kind of file that is read here',
                    where=source,
                    mend=f"Known endings: {' '.join(CONTAINERS)}, each also with .gz or .zst.",
                )
            files.append(source)
        elif glob.has_magic(source):
            matches = sorted(m for m in glob.glob(source, recursive=True) if container_of(m) and Path(m).is_file())
            if not matches:
                raise UsageError("no data file matches this pattern", where=source)
            files += matches
        else:
            raise UsageError("no such file or folder", where=source, mend=_near_files(path))
    return files


def _files_of_folder(folder: Path) -> list[str]:
    visible = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    data = [p for p in visible if container_of(p) and not p.name.endswith(SIDECARS)]
    if not data:
        raise UsageError(
            "the folder holds no data file", where=str(folder), mend=f"Known endings: {' '.join(CONTAINERS)}"
        )
    kinds: dict[str, Path] = {}
    for path in data:
        kinds.setdefault(cast(str, container_of(path)), path)
    if len(kinds) > 1:
        examples = ", ".join(f"{kind} ({path.name})" for kind, path in kinds.items())
        raise UsageError(
            f"the folder mixes kinds of files: {examples}",
            where=str(folder),
            mend=f'Name the files, or use a pattern such as "{folder}/*{next(iter(kinds.values())).suffix}".',
        )
    return [str(p) for p in data]


def _near_files(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either."
    close = nearest(path.name, [p.name for p in path.parent.iterdir()])
    return f"Near it: {', '.join(close)}" if close else None


def open_binary(file: str) -> BinaryIO:
    """Open a file (or stdin for ``-``) for reading bytes, decompressed. Raises ``UsageError``."""
    if file == STDIN:
        return sys.stdin.buffer
    try:
        if file.endswith(".gz"):
            return cast(BinaryIO, gzip.open(file, "rb"))
        if file.endswith(".zst"):
            import pyarrow as pa

            return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(file, "rb"), "zstd"))
        return Path(file).open("rb")
    except OSError as error:
        raise from_os_error(error, "opening a source") from error
