"""Which files of a folder, or of a pattern, hold rows: by name, in sorted order, sidecars and hidden files passed over."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from registry.errors import UsageError, from_os_error

log = logging.getLogger("tunekit")

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
# What our own commands leave beside the data; never rows themselves.
SIDECARS = (".manifest.json", ".rejects.jsonl")
# What LLaMA-Factory and `datasets` leave there.
SIDECAR_NAMES = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json"})
MOST_NAMED = 3  # names listed in a message


def container_of(path: str | Path) -> str | None:
    """``"jsonl"``, ``"parquet"`` … by the file's ending (``.gz`` and ``.zst`` looked through); None if unknown."""
    name = Path(path)
    if name.suffix.lower() in COMPRESSIONS:
        name = name.with_suffix("")
    return CONTAINERS.get(name.suffix.lower())


def base_name(name: str) -> str:
    """The last part of a path, a key of a bucket or a URL."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def is_sidecar(name: str) -> bool:
    """Whether a file of this name tells about rows and holds none."""
    base = base_name(name)
    return base.endswith(SIDECARS) or base in SIDECAR_NAMES


def data_files(names: Iterable[str]) -> list[str]:
    """Those of the names that hold rows, sorted: visible, of a known ending, no sidecar."""
    found = [n for n in names if container_of(n) and not base_name(n).startswith(".") and not is_sidecar(n)]
    if any(container_of(n) == "arrow" for n in found):  # state.json lies beside what `datasets` saves to disk
        found = [n for n in found if base_name(n) != "state.json"]
    return sorted(found)


def of_one_kind(names: Sequence[str], where: str, *, inner: Sequence[str] = ()) -> list[str]:
    """``names`` as they are. Raises ``UsageError`` where there is none, or where they are of several containers.

    ``inner`` are data files further down, which a message can point at.
    """
    if not names:
        if inner:
            raise UsageError(
                f"the folder itself holds no data file, its subfolders do ({_some(inner)})",
                where=where,
                mend=f'Name one of them, or all:  "{where.rstrip("/")}/**/*{_ending(inner[0])}"',
            )
        raise UsageError("the folder holds no data file", where=where, mend=f"Known endings: {' '.join(CONTAINERS)}")
    kinds: dict[str, str] = {}
    for name in names:
        kinds.setdefault(str(container_of(name)), name)
    if len(kinds) > 1:
        examples = ", ".join(f"{kind} ({base_name(name)})" for kind, name in kinds.items())
        first = next(iter(kinds.values()))
        raise UsageError(
            f"the folder mixes kinds of files: {examples}",
            where=where,
            mend=f'Name the files, or use a pattern such as "{where.rstrip("/")}/*{_ending(first)}".',
        )
    return list(names)


def _ending(name: str) -> str:
    path = Path(base_name(name))
    return path.with_suffix("").suffix + path.suffix if path.suffix.lower() in COMPRESSIONS else path.suffix


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(base_name(name) for name in names[:MOST_NAMED]) + more


def files_of_folder(folder: Path) -> list[str]:
    """The data files that lie in ``folder`` itself, all of one kind, in sorted order.

    What lies in its subfolders is not taken, and told; links that lead nowhere, pipes and devices among the data files
    are refused: passing them over would lose rows in silence. Raises ``UsageError``.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise from_os_error(error, "listing a folder") from None
    names = data_files(str(entry) for entry in entries)
    found = [name for name in names if not Path(name).is_dir()]
    for name in found:
        check_readable(Path(name))
    folders = [e for e in entries if e.is_dir() and not e.is_symlink() and not e.name.startswith(".")]
    inner = [name for entry in folders for name in _inner_files(entry)]
    if found and inner:
        log.warning(
            '%s: only the files of the folder itself are read; its subfolders hold %d data files more (%s). "%s/**" is all',
            folder, len(inner), _some(inner), folder,
        )  # fmt: skip
    return of_one_kind(found, str(folder), inner=inner)


def _inner_files(folder: Path) -> list[str]:
    try:
        return [name for name in data_files(str(p) for p in folder.iterdir()) if Path(name).is_file()]
    except OSError:  # it is not read anyway
        return []


def check_readable(path: Path) -> None:
    """Raise ``UsageError`` unless ``path`` is a regular file that may be read."""
    where = str(path)
    if path.is_symlink() and not path.exists():
        try:
            path.resolve(strict=True)
            leads = "nowhere"
        except (OSError, RuntimeError) as error:  # RuntimeError is pathlib's word for a loop
            loop = isinstance(error, RuntimeError) or "symbolic links" in str(error)
            leads = "back to itself" if loop else f"to {path.readlink()}, which does not exist"
        raise UsageError(f"this is a symbolic link that leads {leads}", where=where, mend="Mend or remove the link.")
    if not path.is_file():  # it could be read once only, and its hash is taken after its rows
        raise UsageError(
            "this is a pipe or a device, a file is needed", where=where, mend="Send its rows to stdin, named as  -"
        )
    if not os.access(path, os.R_OK):
        raise UsageError("no permission to read this file", where=where)


def files_of_pattern(pattern: str) -> list[str]:
    """The data files that match a glob, in sorted order; ``**`` is any number of folders, links to folders not followed.

    Hidden files and sidecars are passed over unless the pattern spells them. Raises ``UsageError`` where none is left.
    """
    spelled = base_name(pattern)
    names = _walked(pattern) if "**" in pattern.split("/") else glob.glob(pattern)
    found = [n for n in names if container_of(n) and not Path(n).is_dir()]
    if not (spelled.endswith(SIDECARS) or spelled in SIDECAR_NAMES):
        found = [name for name in found if not is_sidecar(name)]
    if not found:
        raise UsageError("no data file matches this pattern", where=pattern)
    for name in found:
        check_readable(Path(name))
    return sorted(found)


def _walked(pattern: str) -> list[str]:
    """Matches of a pattern with ``**``. ``glob`` would follow links to folders, round and round where they are a loop."""
    parts = pattern.split("/")
    at = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = "/".join(parts[:at]) or ("/" if pattern.startswith("/") else ".")
    matches = pattern_matcher("/".join(parts[at:]))
    found = []
    for folder, folders, files in os.walk(base):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(folder, name).relative_to(base)
            if matches(path.as_posix()) and not name.startswith("."):
                found.append(str(Path(base, path)))
    return found


def pattern_matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path with ``/`` matches ``pattern``: ``*`` and ``?`` stop at ``/``, ``**`` is any number of folders.

    ``data/**`` is every file below ``data``.
    """
    if pattern == "**" or pattern.endswith("/**"):
        pattern += "/*"
    spelled, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            spelled, at = spelled + "(?:[^/]+/)*", at + 3
            continue
        sign, at = pattern[at], at + 1
        end = pattern.find("]", at + 1) if sign == "[" else -1
        if end > 0:
            inner = pattern[at:end].replace("\\", "\\\\").replace("[", "\\[")
            spelled, at = spelled + f"[{'^' + inner[1:] if inner.startswith('!') else inner}]", end + 1
        else:
            spelled += {"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign))
    whole = re.compile(spelled)
    return lambda path: whole.fullmatch(path) is not None
