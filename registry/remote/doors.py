"""The two things that are asked of a hub: which files a dataset has, and one of them on this machine."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("tunekit")

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a dataset at one revision: path → SHA-256, where the hub tells it."""

    revision: str
    files: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Door:
    """One hub. Its functions raise whatever its library raises; ``registry.remote.hub`` makes it one of ours.

    ``listing(repo, revision)``, ``fetch(repo, revision, path, sha256)``, ``cached(repo, revision)`` is what the library
    itself remembers of a dataset without the network (None: nothing), ``home()`` is the folder of the library's cache.
    """

    name: str
    library: str
    default_revision: str
    pins_commits: bool
    home: Callable[[], Path]
    listing: Callable[[str, str], Listing]
    fetch: Callable[[str, str, str, str | None], Path]
    cached: Callable[[str, str], Listing | None]
    log_in: str


def _hf_home() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HOME)


def _hf_listing(repo: str, revision: str) -> Listing:
    from huggingface_hub import HfApi

    api = HfApi()
    commit = str(api.dataset_info(repo, revision=revision).sha)
    return Listing(commit, dict.fromkeys(api.list_repo_files(repo, repo_type="dataset", revision=commit)))


def _hf_fetch(repo: str, revision: str, path: str, sha256: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    if not log.isEnabledFor(logging.INFO):
        disable_progress_bars()
    return Path(hf_hub_download(repo, path, repo_type="dataset", revision=revision))


def _hf_cached(repo: str, revision: str) -> Listing | None:
    """What lies in huggingface_hub's own cache: refs/<revision> names a commit, snapshots/<commit> holds its files."""
    from huggingface_hub import constants

    base = Path(constants.HF_HUB_CACHE) / f"datasets--{repo.replace('/', '--')}"
    named = base / "refs" / revision
    commit = named.read_text().strip() if named.is_file() else revision
    return _listing_of_folder(commit, base / "snapshots" / commit)


def _listing_of_folder(revision: str, folder: Path) -> Listing | None:
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return Listing(revision, dict.fromkeys(files)) if files else None


def _ms_home() -> Path:
    from modelscope_hub import get_default_config

    return Path(get_default_config().cache_dir)


def _ms_listing(repo: str, revision: str) -> Listing:
    from modelscope_hub import HubApi

    logging.getLogger("modelscope_hub").setLevel(logging.WARNING)  # it tells of each page that it lists
    files = HubApi().list_repo_files(repo, "dataset", revision=revision)
    return Listing(revision, {f.path: f.sha256 or None for f in files if not f.is_dir})


def _ms_fetch(repo: str, revision: str, path: str, sha256: str | None) -> Path:
    from modelscope_hub import HubApi

    # A branch moves on, and the cache goes by its name: the listing's hash keeps an old copy from passing for the new.
    return HubApi().download_file(repo, "dataset", path, revision=revision, expected_sha256=sha256)


def _ms_cached(repo: str, revision: str) -> Listing | None:
    folder = _ms_home() / "datasets" / repo.replace("/", "--") / "snapshots" / revision
    return _listing_of_folder(revision, folder)


# scheme of an address -> the hub behind it
DOORS: dict[str, Door] = {
    "hf": Door(
        "Hugging Face", "huggingface_hub", "main", True, _hf_home, _hf_listing, _hf_fetch, _hf_cached,
        "Check the name; for a private or gated one log in (hf auth login, or HF_TOKEN in the environment).",
    ),
    "ms": Door(
        "ModelScope", "modelscope_hub", "master", False, _ms_home, _ms_listing, _ms_fetch, _ms_cached,
        "Check the name; for a private one log in (modelscope login, or MODELSCOPE_API_TOKEN in the environment).",
    ),
}  # fmt: skip
