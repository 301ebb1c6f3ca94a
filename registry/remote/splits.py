"""Which files of a hub's dataset make up a split, by the very rules of the `datasets` library."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from registry.errors import TunekitError, UsageError, did_you_mean
from registry.folders import CONTAINERS, container_of
from registry.remote.address import HubAddress
from registry.remote.doors import Listing

CARDS = ("README.md", ".huggingface.yaml")  # where a dataset says which files its subsets and splits are
ARCHIVES = (".zip", ".7z", ".rar")  # `datasets` would look into these to see what they hold
DEFAULT_SPLIT = "train"
# Settings of a card that do not change what a file says.
_HARMLESS = frozenset({"name", "version", "data_dir", "data_files", "description", "features"})
_Fetch = Callable[[str], Path]


def files_of_split(address: HubAddress, listing: Listing, fetch: _Fetch) -> list[str]:
    """The paths of a split's files, in the order in which `datasets` reads them.

    `datasets` is shown a folder of empty files with the dataset's names and its card, so that it sees what it would see
    after a download, and nothing but the card is downloaded. Without a split it is ``train``, or the only one there is.
    Raises ``UsageError``.
    """
    _refuse_scripts(address, listing)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(os.path.realpath(scratch), "dataset")
        root.mkdir()
        _lay_out(root, listing, fetch)
        builder = _builder(address, root, scratch)
        splits = {str(name): [str(file) for file in files] for name, files in builder.config.data_files.items()}
        chosen = _choose(splits, address)
        paths = [_within(root, file, address) for name in chosen for file in splits[name]]
    _refuse_others(paths, builder.config, address)
    return paths


def _refuse_scripts(address: HubAddress, listing: Listing) -> None:
    script = f"{address.repo.rsplit('/', 1)[-1]}.py"
    if script in listing.files:
        raise UsageError(
            f"this dataset is made by a program of its own ({script}), which is never run here",
            where=str(address),
            mend=f"Its rows as Parquet may be at  {address.hub}://{address.repo}@refs/convert/parquet",
        )


def _lay_out(root: Path, listing: Listing, fetch: _Fetch) -> None:
    for name in listing.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name.lower().endswith(ARCHIVES) or path.suffix == ".py":
            continue
        if name == "dataset_infos.json":  # it must not be empty, and says nothing about files
            continue
        content = fetch(name).read_bytes() if name in CARDS else b""
        if name == "README.md" and not content.lstrip().startswith(b"---"):  # a card without settings
            continue
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _builder(address: HubAddress, root: Path, scratch: str) -> Any:
    import datasets

    try:
        return datasets.load_dataset_builder(
            str(root), address.subset, data_dir=address.folder, cache_dir=str(Path(scratch, "cache"))
        )
    except TunekitError:
        raise
    except Exception as error:  # YAML, patterns, subsets: each fault of a card comes as it likes
        raise _explained(error, address, root) from error


def _explained(error: Exception, address: HubAddress, root: Path) -> UsageError:
    where, told = str(address), str(error).strip().replace(str(root), address.repo)
    if isinstance(error, ValueError) and ("Config name is missing" in told or "BuilderConfig" in told):
        import datasets

        known = datasets.get_dataset_config_names(str(root))
        what = f'no subset "{address.subset}"' if address.subset else "several subsets, and one must be named"
        hint = did_you_mean(address.subset or "", known) if address.subset else ""
        mend = f"{hint} Subsets: {', '.join(known)}. For example  {address.hub}://{address.repo}/{known[0]}:train"
        return UsageError(f"the dataset has {what}", where=where, mend=mend.strip())
    if isinstance(error, FileNotFoundError):  # also DataFilesNotFoundError and EmptyDatasetError
        folder = f' in the folder "{address.folder}"' if address.folder else ""
        return UsageError(
            f"the dataset holds no data file{folder} of a kind that is read here",
            where=where,
            mend=f"Known endings: {' '.join(CONTAINERS)}.",
        )
    return UsageError(
        f"the dataset's card cannot be followed: {told.splitlines()[0][:200] if told else error}", where=where
    )


def _choose(splits: dict[str, list[str]], address: HubAddress) -> Iterable[str]:
    if address.split == "all":
        return splits
    if address.split is None:
        if DEFAULT_SPLIT not in splits and len(splits) > 1:
            raise UsageError(
                f"the dataset has no split {DEFAULT_SPLIT}, and one must be named",
                where=str(address),
                mend=f"Splits: {', '.join(splits)}; all of them are  :all",
            )
        return [DEFAULT_SPLIT] if DEFAULT_SPLIT in splits else list(splits)
    chosen = address.split.split("+")
    for name in chosen:
        if name not in splits:
            hint = did_you_mean(name, splits)
            mend = f"{hint} Splits: {', '.join(splits)}.".lstrip()
            raise UsageError(f'the dataset has no split "{name}"', where=str(address), mend=mend)
    return chosen


def _within(root: Path, file: str, address: HubAddress) -> str:
    """``file`` as a path of the dataset. A card may name any place; only the dataset's own files are read."""
    try:
        return Path(os.path.realpath(file)).relative_to(root).as_posix()
    except ValueError:
        raise UsageError(f"its card names a file outside of the dataset: {file}", where=str(address)) from None


def _refuse_others(paths: list[str], config: Any, address: HubAddress) -> None:
    """Refuse kinds of files that are not read here, and cards that say how a file is to be read unlike others of its kind."""
    for path in paths:
        if container_of(path) is None:
            raise UsageError(
                f'"{path}" is not a kind of file that is read here',
                where=str(address),
                mend=f"Known endings: {' '.join(CONTAINERS)}, each also with .gz or .zst.",
            )
    tabs = all(container_of(path) == "tsv" for path in paths)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in _HARMLESS or value == field.default or (field.name in ("sep", "delimiter") and value is None):
            continue
        if field.name == "sep" and value == ("\t" if tabs else ","):
            continue
        raise UsageError(
            f"its card says to read the files with {field.name} = {value!r}, which is not done here",
            where=str(address),
            mend="Convert it with the datasets library (load_dataset, then to_json), and name that file.",
        )
