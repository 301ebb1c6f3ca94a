"""From the address of a hub's dataset to its files: listed, pinned to a revision, and fetched when they are opened."""

from __future__ import annotations

import glob
import importlib.util
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from registry.atomic import write_json
from registry.errors import TunekitError, UsageError, from_os_error, nearest
from registry.folders import CONTAINERS, container_of, data_files, of_one_kind, pattern_matcher
from registry.remote.address import HubAddress
from registry.remote.doors import COMMIT, DOORS, Door, Listing
from registry.remote.splits import files_of_split

log = logging.getLogger("tunekit")

INSTALL = 'pip install "tunekit[hub]"'
LISTING_VERSION = 1
# Names of error classes, in whichever library: the hub was not reached, and what is in the cache may do.
_UNREACHABLE = {
    "OfflineModeIsEnabled", "ConnectionError", "ConnectError", "ConnectTimeout", "ReadTimeout", "Timeout",
    "TimeoutException", "TransportError", "NetworkError", "TimeoutError", "ServerError", "MaxRetryError",
    "LocalEntryNotFoundError",
}  # fmt: skip


def check(address: HubAddress) -> None:
    """Raise ``UsageError`` where a library that the address needs is not installed."""
    for library in (DOORS[address.hub].library, *(() if address.path else ("datasets",))):
        if importlib.util.find_spec(library) is None:
            raise UsageError(f"this needs {library}, which is not installed", where=str(address), mend=INSTALL)


def is_pinned(address: HubAddress) -> bool:
    """Whether the address holds a commit, so that its content never changes."""
    return DOORS[address.hub].pins_commits and COMMIT.fullmatch(address.revision or "") is not None


def expand(address: HubAddress) -> list[str]:
    """The files of a dataset as addresses that hold their revision. Raises ``UsageError``."""
    check(address)
    door = DOORS[address.hub]
    revision = address.revision or door.default_revision
    revised = is_pinned(address) or (address.revision and not door.pins_commits)
    if address.path and revised and container_of(address.path) and not glob.has_magic(address.path):
        return [str(address)]  # what came out of here goes in again, without a look at the network
    listing = listing_of(address.hub, address.repo, revision)
    if address.path:
        paths = _files_at(address, address.path, listing)
    else:
        paths = files_of_split(address, listing, lambda path: _fetched(address, listing.revision, path))
    found = [HubAddress(address.hub, address.repo, listing.revision, path) for path in paths]
    log.info("%s: %d file%s at revision %s", address, len(found), "s"[: len(found) > 1], listing.revision)
    return [str(one) for one in found]


def _files_at(address: HubAddress, path: str, listing: Listing) -> list[str]:
    """The files that ``path`` means within a dataset: itself, those of a folder, or those that match it."""
    if path in listing.files:
        if container_of(path) is None:
            raise UsageError(
                "this is not a kind of file that is read here",
                where=str(address),
                mend=f"Known endings: {' '.join(CONTAINERS)}, each also with .gz or .zst.",
            )
        return [path]
    below = [name for name in listing.files if name.startswith(f"{path}/")]
    if below:
        own = [name for name in below if "/" not in name[len(path) + 1 :]]
        return of_one_kind(data_files(own), str(address), inner=data_files(below))
    if glob.has_magic(path):
        matches = pattern_matcher(path)
        if found := data_files(name for name in listing.files if matches(name)):
            return found
        raise UsageError("no data file of the dataset matches this pattern", where=str(address))
    near = nearest(path, listing.files)
    mend = f"Near it: {', '.join(near)}." if near else f"A subset is named with its split:  {address}:train"
    raise UsageError("the dataset has no such file or folder", where=str(address), mend=mend)


@lru_cache(maxsize=64)
def listing_of(hub: str, repo: str, revision: str) -> Listing:
    """The files of a dataset, asked of the hub once a process; where it cannot be reached, as it was seen last.

    Raises ``UsageError``.
    """
    door = DOORS[hub]
    memory = _memory_of(hub, repo, revision)
    if is_pinned(HubAddress(hub, repo, revision)) and (known := _recall(memory)):
        return known
    where = HubAddress(hub, repo, revision)
    try:
        listing = door.listing(repo, revision)
    except Exception as error:  # several HTTP libraries, each with errors of its own
        if not _is_unreachable(error):
            raise _explained(door, error, str(where)) from error
        return _as_seen_last(door, where, memory, error)
    for name in {revision, listing.revision}:  # asked for by its branch now, by its commit perhaps later
        _remember(_memory_of(hub, repo, name), listing)
    return listing


def _memory_of(hub: str, repo: str, revision: str) -> Path:
    name = f"{repo.replace('/', '--')}@{quote(revision, safe='')}.json"
    return DOORS[hub].home() / "tunekit" / "listings" / hub / name


def _as_seen_last(door: Door, where: HubAddress, memory: Path, error: Exception) -> Listing:
    known, partly = _recall(memory), ""
    if known is None:
        known = door.cached(where.repo, str(where.revision))
        partly = "; files that were never downloaded are missing from it"
    if known is None:
        raise UsageError(
            f"{door.name} cannot be reached ({_told(error)}), and its cache holds nothing of this dataset",
            where=str(where),
            mend=f"Run it once with the network; after that it is read from {door.home()}.",
        ) from error
    log.warning(
        "%s cannot be reached (%s): %s is read as it lies in the cache%s", door.name, _told(error), where, partly
    )
    return known


def _remember(memory: Path, listing: Listing) -> None:
    told = {"format_version": LISTING_VERSION, "revision": listing.revision, "files": dict(listing.files)}
    try:
        write_json(memory, told)
    except OSError as error:  # a cache that cannot be written only costs the next offline run
        log.debug("%s cannot be written: %s", memory, error)


def _recall(memory: Path) -> Listing | None:
    try:
        told: Any = orjson.loads(memory.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    if not isinstance(told, dict) or told.get("format_version") != LISTING_VERSION:
        return None
    return Listing(told["revision"], told["files"])


def fetch(address: HubAddress) -> str:
    """The path of one file of a dataset on this machine, downloaded unless it is in the cache. Raises ``UsageError``."""
    check(address)
    revision = address.revision or DOORS[address.hub].default_revision
    return str(_fetched(address, revision, str(address.path)))


def _fetched(address: HubAddress, revision: str, path: str) -> Path:
    door = DOORS[address.hub]
    where = f"{address.hub}://{address.repo}@{revision}/{path}"
    # A commit pins the content. Where there is only a branch, the listing's hash does.
    sha256 = None if door.pins_commits else listing_of(address.hub, address.repo, revision).files.get(path)
    try:
        return door.fetch(address.repo, revision, path, sha256)
    except Exception as error:  # several HTTP libraries, each with errors of its own
        if _is_unreachable(error):
            raise UsageError(
                f"the file is not in the cache, and {door.name} cannot be reached ({_told(error)})",
                where=where,
                mend="Run it once with the network; the file stays in the cache.",
            ) from error
        raise _explained(door, error, where) from error


def _classes(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _is_unreachable(error: Exception) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return bool(_classes(error) & _UNREACHABLE) or status == 429 or (isinstance(status, int) and status >= 500)


def _explained(door: Door, error: Exception, where: str) -> TunekitError:
    classes = _classes(error)
    if isinstance(error, TunekitError):
        return error
    if "GatedRepoError" in classes:
        return UsageError("one must ask for access to this dataset on its page", where=where, mend=door.log_in)
    if classes & {"RepositoryNotFoundError", "NotExistError", "AuthenticationError", "PermissionDeniedError"}:
        return UsageError(f"{door.name} shows no such dataset, revision or file", where=where, mend=door.log_in)
    if "RevisionNotFoundError" in classes:
        return UsageError("the dataset has no such revision", where=where)
    if "EntryNotFoundError" in classes:
        return UsageError("the dataset has no such file", where=where)
    if classes & {"HFValidationError", "InvalidParameter"}:
        return UsageError(f"this is no name of a dataset: {_told(error)}", where=where)
    if isinstance(error, OSError) and error.errno:
        return from_os_error(error, f"downloading {where}")
    return UsageError(f"{door.name} refuses: {_told(error)}", where=where)


def _told(error: Exception) -> str:
    if type(error).__name__ == "OfflineModeIsEnabled":
        return "HF_HUB_OFFLINE is set"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
