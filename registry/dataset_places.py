"""From the name of a dataset in a config to its entry: one of dataset_info.json, a file, an address, or a hub's own."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from registry.dataset_address import uses_modelscope, uses_openmind
from registry.datasets import FILE_NAME, DatasetEntry, parse_entry, read_dataset_info
from registry.errors import UsageError, nearest
from registry.formats import nearest_parts
from registry.formats.guess import described, first_fault, guess_layout
from registry.remote import downloaded, expand, is_remote
from registry.remote.address import HubAddress, parse_address
from registry.rows import BadRow, Row, read_rows
from registry.slices import parse_split
from registry.sources import check_sources, container_of

DatasetDir = str | Path | Mapping[str, Any]

ONLINE, REMOTE = "ONLINE", "REMOTE:"
HEAD_ROWS = 100  # looked at to see what the rows are
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find_dataset(name: str, dataset_dir: DatasetDir) -> DatasetEntry:
    """The entry that ``name`` stands for.

    ``dataset_dir`` is a folder with a dataset_info.json, ``REMOTE:org/name`` (the dataset_info.json of that dataset of
    Hugging Face, whose files are then looked up there too), ``ONLINE`` (names are datasets of the hub, of alpaca's
    columns), or a mapping of names to entries. A name that is defined there goes first; else it may be a file, a folder
    or a glob (from the working folder, else from ``dataset_dir``), or an address (``hf://org/name:split``): what its
    first rows look like is then their layout, and a note says so. No dataset_info.json is needed for these.

    Raises ``UsageError`` where nothing is found, with the nearest names and files, and where the rows of a file are of
    no known format; ``Faults`` for an entry that does not hold up.
    """
    if isinstance(dataset_dir, Mapping):
        return _defined_or_placed(name, dataset_dir, Path(), "dataset_dir")
    spelled = str(dataset_dir)
    if spelled == ONLINE:
        if is_remote(name) or container_of(name):
            return _placed(name, Path(), {}, ONLINE)
        hub = "ms_hub_url" if uses_modelscope() else "om_hub_url" if uses_openmind() else "hf_hub_url"
        return parse_entry(name, {hub: name}, Path())
    if spelled.startswith(REMOTE):
        return _remote(name, spelled.removeprefix(REMOTE))
    folder = Path(dataset_dir)
    is_place = is_remote(name) or _looks_like_a_path(name, folder)
    known = {} if is_place and not (folder / FILE_NAME).exists() else read_dataset_info(folder)
    return _defined_or_placed(name, known, folder, str(folder / FILE_NAME))


def _defined_or_placed(name: str, known: Mapping[str, Any], folder: Path, where: str) -> DatasetEntry:
    return parse_entry(name, known[name], folder) if name in known else _placed(name, folder, known, where)


def _remote(name: str, repo: str) -> DatasetEntry:
    """An entry of the dataset_info.json that lies in a dataset of Hugging Face."""
    (info,) = expand(f"hf://{repo}/{FILE_NAME}")
    place = parse_address(info)
    try:
        known = orjson.loads(Path(str(downloaded(info))).read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise UsageError(f"not JSON: {error}", where=info) from None
    if not isinstance(known, dict):
        raise UsageError("must hold one object: dataset name → entry", where=info)
    entry = _defined_or_placed(name, known, Path(), info)
    if name not in known or entry.file_name is None or entry.address is not None or Path(entry.file_name).is_absolute():
        return entry
    # LLaMA-Factory 0.9.5 looks for the file under a local folder called "REMOTE:org/name".
    address = str(HubAddress("hf", repo, place.revision, entry.file_name.strip("/")))
    return replace(entry, file_name=None, hub=address, address=address)


def _looks_like_a_path(name: str, folder: Path) -> bool:
    return bool("/" in name or "\\" in name or container_of(name) or _existing(name, folder))


def _existing(name: str, folder: Path) -> str | None:
    """The file, folder or glob that ``name`` means from the working folder, else from ``folder``; None where neither is."""
    for candidate in (name, str(folder / name)):
        if Path(candidate).exists() or Path(candidate).is_symlink():
            return candidate
        if glob.has_magic(candidate) and glob.glob(candidate, recursive=True):
            return candidate
    return None


def _placed(name: str, folder: Path, known: Mapping[str, Any], where: str) -> DatasetEntry:
    """The entry of what is named by its place. Raises ``UsageError``."""
    if is_remote(name):
        address, slices = _without_slices(name)
        check_sources([address])
        return replace(_guessed(name, address), hub=name, address=address, slices=slices)
    found = _existing(name, folder)
    if found is None:
        raise _unknown(name, folder, known, where)
    check_sources([found])
    return replace(_guessed(name, found), file_name=found)


def _without_slices(address: str) -> tuple[str, Any]:
    """An address of whole splits, and the slices of them that it named: ``hf://org/name:train[:10%]``."""
    head, question, query = address.partition("?")
    at = re.search(r":[^:/\[]+\[", head)
    if at is None:
        return address, ()
    splits, slices = parse_split(head[at.start() + 1 :], address)
    return f"{head[: at.start()]}:{splits}{question}{query}", slices


def _guessed(name: str, source: str) -> DatasetEntry:
    """An entry without a place, for the rows of ``source`` as the first of them look."""
    head = list(islice(read_rows([source]), HEAD_ROWS))
    readable = [row for row in head if isinstance(row, Row)]
    if not readable:
        first = next(row for row in head if isinstance(row, BadRow))
        raise UsageError(f"none of the first rows can be read: {first.reason}", where=first.where)
    layout = guess_layout([row.data for row in readable])
    first_row = readable[0]
    if layout is None:
        parts = nearest_parts(first_row.data) or {"instruction": "COLUMN", "output": "COLUMN"}
        spelled = " ".join(f"--columns {part}={column}" for part, column in parts.items())
        raise UsageError(
            f"these columns belong to no known format: {', '.join(first_row.data) or 'none'}",
            where=first_row.where,
            mend=f"Say what they are, and use the name:  datakit register {source} --name NAME {spelled}",
        )
    fault = first_fault([row.data for row in readable], layout)
    if fault is not None:
        raise UsageError(
            f"the rows look like {layout.formatting} ({layout.kind}), and none of the first {len(readable)} is: {fault}",
            where=first_row.where,
            mend=f"See  datakit validate {source}  ; other roles and columns can be named:  datakit register {source} "
            "--name NAME",
        )
    met = dict.fromkeys(column for row in readable for column in row.data)
    note = f"{name} is read as {described(layout, met)}"
    return DatasetEntry(name=name, folder=Path(), layout=layout, notes=(note,))


def _unknown(name: str, folder: Path, known: Mapping[str, Any], where: str) -> UsageError:
    names = nearest(name, known)
    files = _near_files(name, folder)
    hints = [f"Nearest names: {', '.join(names)}."] if names else []
    hints += [f"Nearest files: {', '.join(files)}."] if files else []
    if _HUB_NAME.fullmatch(name) and not container_of(name):
        hints.append(f"A dataset of the hub is  hf://{name}")
    if not hints:
        hints.append(f"Defined there: {', '.join(list(known)[:10]) or 'none at all'}.")
    if _looks_like_a_path(name, folder):
        return UsageError(
            f'"{name}" is neither a dataset that is defined nor a file', where=where, mend=" ".join(hints)
        )
    return UsageError(f'dataset "{name}" is not defined', where=where, mend=" ".join(hints))


def _near_files(name: str, folder: Path) -> list[str]:
    """Files called nearly so, beside where the file was looked for."""
    found: dict[str, None] = {}
    for base in dict.fromkeys((Path(name).parent, (folder / name).parent)):
        if base.is_dir():
            there = [str(p) for p in _listed(base) if p.is_dir() or container_of(p)]
            by_name = {Path(path).name: path for path in there if Path(path).name != FILE_NAME}
            found |= dict.fromkeys(by_name[close] for close in nearest(Path(name).name, by_name))
    return list(found)[:3]


def _listed(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # it is only for a hint
        return []
