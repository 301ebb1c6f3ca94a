"""dataset_info.json: read, check and write the entries that tell where a dataset lies and what its columns mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock

from registry.atomic import write_json
from registry.dataset_address import HUB_KEYS, address_of
from registry.errors import Faults, UsageError, did_you_mean, nearest
from registry.slices import RowSlice, parse_split

FILE_NAME = "dataset_info.json"
FORMATTINGS = ("alpaca", "sharegpt", "openai")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a row plays which part; None where the row has no such part."""

    prompt: str | None = "instruction"
    query: str | None = "input"
    response: str | None = "output"
    history: str | None = None
    messages: str | None = "conversations"
    system: str | None = None
    tools: str | None = None
    images: str | None = None
    videos: str | None = None
    audios: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    kto_tag: str | None = None


@dataclass(frozen=True, slots=True)
class Tags:
    """How one message of a sharegpt or openai row is spelled: its keys, and its names for the roles."""

    role_tag: str | None = "from"
    content_tag: str | None = "value"
    user_tag: str | None = "human"
    assistant_tag: str | None = "gpt"
    observation_tag: str | None = "observation"
    function_tag: str | None = "function_call"
    system_tag: str | None = "system"


COLUMN_KEYS = tuple(f.name for f in fields(Columns))
TAG_KEYS = tuple(f.name for f in fields(Tags))
OPENAI_TAGS = Tags("role", "content", "user", "assistant", "tool", "function", "system")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a row is to be read: the source format, its columns and tags, and whether it is a preference pair.

    ``weights`` False passes over what messages say of their weight, as LLaMA-Factory does.
    """

    formatting: str = "alpaca"
    columns: Columns = Columns()
    tags: Tags = Tags()
    ranking: bool = False
    weights: bool = True

    @property
    def kind(self) -> str:
        """The kind of record a row becomes: ``text``, ``chat``, ``preference`` or ``feedback``."""
        if self.ranking:
            return "preference"
        if self.columns.kto_tag:
            return "feedback"
        answers = self.columns.response if self.formatting == "alpaca" else self.columns.messages
        return "chat" if answers else "text"


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One entry of dataset_info.json, with LLaMA-Factory's keys; ``hub`` holds whatever hub address it names.

    ``address`` is that address as a source (``hf://…``, ``s3://…``), None where it is none that is read here. ``slices``
    are parts of the split that alone are meant, none where it is whole; ``sources`` hold the whole split. ``notes`` say
    what was taken for granted, for whoever uses the entry to tell.
    """

    name: str
    folder: Path
    layout: Layout = Layout()
    file_name: str | None = None
    hub: str | None = None
    address: str | None = None
    subset: str | None = None
    split: str = "train"
    num_samples: int | None = None
    warnings: tuple[str, ...] = field(default=())
    slices: tuple[RowSlice, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sources(self) -> list[str]:
        """What to give ``read_rows``: the file or folder, or an address. Nothing is looked up.

        Raises ``UsageError`` for entries that only a program of their own, or a hub of another kind, could give.
        """
        if self.address is not None:
            return [self.address]
        return [str(self.path)]

    @property
    def path(self) -> Path:
        """The file or folder that holds the rows. Raises ``UsageError`` for entries that lie elsewhere."""
        if self.file_name is None or self.address is not None:
            why = "on another machine" if self.address else "where no rows are read from (script_url, om_hub_url)"
            raise UsageError(
                f'dataset "{self.name}" lies {why}: {self.hub}',
                where=str(self.folder / FILE_NAME),
                mend='Download it and give its entry a "file_name".',
            )
        return self.folder / self.file_name


ENTRY_KEYS = (
    *HUB_KEYS,
    "file_name",
    "formatting",
    "ranking",
    "subset",
    "split",
    "folder",
    "num_samples",
    "columns",
    "tags",
)


def read_dataset_info(dataset_dir: str | Path) -> dict[str, Any]:
    """The whole of ``<dataset_dir>/dataset_info.json`` as it stands. Raises ``UsageError``."""
    path = Path(dataset_dir) / FILE_NAME
    try:
        value = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except FileNotFoundError:
        raise UsageError(
            "no such file",
            where=str(path),
            mend="Set dataset_dir to the folder that holds it, or make it: datakit register FILE --name NAME",
        ) from None
    except orjson.JSONDecodeError as error:
        raise UsageError(f"not JSON: {error}", where=str(path)) from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if not isinstance(value, dict):
        raise UsageError("must hold one object: dataset name → entry", where=str(path))
    return value


def find_entry(name: str, dataset_dir: str | Path) -> DatasetEntry:
    """The entry called ``name``. Raises ``UsageError`` that lists the nearest names where there is none."""
    known = read_dataset_info(dataset_dir)
    if name not in known:
        close = nearest(name, known)
        listed = ", ".join(close) if close else ", ".join(list(known)[:10]) or "none at all"
        raise UsageError(
            f'dataset "{name}" is not defined',
            where=str(Path(dataset_dir) / FILE_NAME),
            mend=f"{'Nearest names' if close else 'Defined there'}: {listed}.",
        )
    return parse_entry(name, known[name], Path(dataset_dir))


def parse_entry(name: str, raw: Any, folder: Path) -> DatasetEntry:
    """Check one entry and build it. Raises ``Faults`` with everything that is wrong in it.

    LLaMA-Factory's all-or-nothing rule holds (as LLaMA-Factory 0.9.5): once ``columns`` or ``tags`` is there, what it does
    not list is None, and a warning says so where a default would have been needed.
    """
    where = f'{folder / FILE_NAME}, "{name}"'
    if not isinstance(raw, Mapping):
        raise UsageError("an entry must be an object", where=where)
    faults: list[str] = []
    warnings = [
        f'unknown key "{key}" is ignored. {did_you_mean(key, ENTRY_KEYS)}' for key in raw if key not in ENTRY_KEYS
    ]
    formatting = raw.get("formatting", "alpaca")
    if formatting not in FORMATTINGS:
        faults.append(
            f'"formatting" is "{formatting}"; known: {", ".join(FORMATTINGS)}. {did_you_mean(str(formatting), FORMATTINGS)}'
        )
        formatting = "alpaca"
    columns = _parse_part(raw, "columns", COLUMN_KEYS, Columns, faults)
    tags = _parse_part(raw, "tags", TAG_KEYS, Tags, faults)
    hub = next((raw[key] for key in HUB_KEYS if raw.get(key)), None)
    file_name = raw.get("file_name")
    if file_name is not None and not isinstance(file_name, str):
        faults.append(f'"file_name" must be text, not {file_name!r}')
    elif not file_name and hub is None:
        faults.append('it names no place: set "file_name" (or a hub address such as "hf_hub_url")')
    if formatting != "alpaca" and tags.role_tag and tags.content_tag:
        missing = [k for k in ("observation_tag", "function_tag", "system_tag") if getattr(tags, k) is None]
        if missing and "tags" in raw:
            warnings.append(
                f"tags lists no {', '.join(missing)}: rows with such turns will be rejected (what is not listed is off)"
            )
    if formatting != "alpaca" and columns.messages is None:
        faults.append('"columns" is there but lists no "messages": with columns given, nothing else is assumed')
    ranking = raw.get("ranking", False)
    if not isinstance(ranking, bool):
        faults.append(f'"ranking" must be true or false, not {ranking!r}')
    if ranking is True and not (columns.chosen and columns.rejected):
        faults.append('"ranking" is true, but columns names no "chosen" and "rejected"')
    for key in ("subset", "split", "folder", *HUB_KEYS):
        if raw.get(key) is not None and not isinstance(raw[key], str):
            faults.append(f'"{key}" must be text, not {raw[key]!r}')
    split: str = raw["split"] if isinstance(raw.get("split"), str) else "train"
    slices: tuple[RowSlice, ...] = ()
    try:
        split, slices = parse_split(split, '"split"')
    except UsageError as error:
        faults.append(str(error))
    num_samples = raw.get("num_samples")
    if num_samples is not None and (not isinstance(num_samples, int) or num_samples < 1):
        faults.append(f'"num_samples" must be a whole number above 0, not {num_samples!r}')
    if faults:
        raise Faults(where, faults)
    return DatasetEntry(
        name=name,
        folder=folder,
        layout=Layout(formatting, columns, tags, bool(ranking)),
        file_name=None if hub else file_name,
        hub=hub,
        address=address_of(raw, split if raw.get("split") else None),
        subset=raw.get("subset"),
        split=split,
        num_samples=num_samples,
        warnings=tuple(warnings),
        slices=slices,
    )


def _parse_part(raw: Mapping[str, Any], part: str, known: tuple[str, ...], build: Any, faults: list[str]) -> Any:
    given = raw.get(part)
    if given is None:
        return build()
    if not isinstance(given, Mapping):
        faults.append(f'"{part}" must be an object')
        return build()
    for key, value in given.items():
        if key not in known:
            faults.append(f'"{part}" has no key "{key}". {did_you_mean(key, known)} Known: {", ".join(known)}')
        elif value is not None and not isinstance(value, str):
            faults.append(f'"{part}.{key}" must be the name of a column, not {value!r}')
    return build(**{key: given.get(key) if isinstance(given.get(key), str) else None for key in known})


def write_entry(name: str, entry: Mapping[str, Any], dataset_dir: str | Path, *, replace: bool = False) -> None:
    """Add (or with ``replace`` exchange) one entry under a lock, keeping order and unknown keys of all others.

    Raises ``UsageError`` where the name is taken or the entry does not hold up by ``parse_entry``.
    """
    folder = Path(dataset_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    parse_entry(name, entry, folder)
    with FileLock(folder / f".{FILE_NAME}.lock"):
        known = read_dataset_info(folder) if path.exists() else {}
        if name in known and not replace and known[name] != dict(entry):
            raise UsageError(
                f'the name "{name}" is taken by another entry',
                where=str(path),
                mend="Add --replace, or choose another name.",
            )
        known[name] = dict(entry)
        try:
            write_json(path, known)
        except TypeError as error:  # a name or path of bytes that are no UTF-8 comes as lone surrogates
            raise UsageError(f"JSON cannot hold this entry: {error}", where=str(path), mend="Rename it.") from None
