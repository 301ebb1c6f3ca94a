"""Addresses of datasets on a hub: ``hf://org/name@revision/subset:split``, or a file, folder or pattern within."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from registry.errors import UsageError, did_you_mean
from registry.folders import container_of

SCHEMES = ("hf", "ms")
SPELLING = "hf://org/name[@revision][/subset][:split], or hf://org/name[@revision]/file, folder or pattern"
_ADDRESS = re.compile(
    r"(?P<repo>[^/@:?#]+(?:/[^/@:?#]+)?)"
    r"(?:@(?P<revision>refs/(?:convert|pr)/[^/:?#]+|[^/:?#]+))?"
    r"(?:/(?P<rest>[^:?#]*?)/*)?"
    r"(?::(?P<split>[^?]*))?"
)
_RESERVED = re.compile("[%:?#]")  # signs that an address is taken apart at
_SPLIT = re.compile(r"[\w.-]+(?:\+[\w.-]+)*")


@dataclass(frozen=True, slots=True)
class HubAddress:
    """One dataset, or files of it. ``path`` and (``subset``, ``split``, ``folder``) exclude each other."""

    hub: str
    repo: str
    revision: str | None = None
    path: str | None = None
    subset: str | None = None
    split: str | None = None
    folder: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        rest = f"/{_RESERVED.sub(_escaped, self.path or self.subset or '')}" if self.path or self.subset else ""
        split = f":{self.split}" if self.split else ""
        folder = f"?folder={self.folder}" if self.folder else ""
        return f"{self.hub}://{self.repo}{revision}{rest}{split}{folder}"

    def as_entry(self) -> dict[str, Any]:
        """The keys of dataset_info.json that name the same rows. Raises ``UsageError`` where there are none for it."""
        if self.path or self.revision:
            raise UsageError(
                "dataset_info.json has no key for a revision or for files of a hub's dataset",
                where=str(self),
                mend="Name the dataset as a whole, with its subset and split; or convert the rows into a file first.",
            )
        keys = {f"{self.hub}_hub_url": self.repo, "subset": self.subset, "split": self.split, "folder": self.folder}
        return {key: value for key, value in keys.items() if value}


def parse_address(text: str) -> HubAddress:
    """Read ``hf://…`` or ``ms://…``. Raises ``UsageError`` for what is none, naming the way to spell it."""
    scheme, _, rest = text.partition("://")
    hub = scheme.lower()
    rest, _, query = rest.partition("?")
    if hub == "hf":  # as huggingface_hub spells it
        rest = rest.removeprefix("datasets/")
    parts = _ADDRESS.fullmatch(rest)
    if not parts or (hub == "ms" and "/" not in parts["repo"]):
        raise UsageError("this is no address of a dataset", where=text, mend=f"Write it as  {SPELLING}")
    path, subset, split = unquote(parts["rest"] or "") or None, None, parts["split"]
    if split is not None:
        path, subset = None, path
        _check_split(split, text)
        if subset and container_of(subset):
            raise UsageError("a file has no splits", where=text, mend=f"Leave out  :{split}")
    if path and ".." in path.split("/"):
        raise UsageError('".." leads out of the dataset', where=text)
    folder = _folder_of(query, text)
    if folder and path:
        raise UsageError("a path and a folder exclude each other", where=text)
    return HubAddress(hub, parts["repo"], parts["revision"], path, subset, split, folder)


def _escaped(sign: re.Match[str]) -> str:
    return f"%{ord(sign[0]):02X}"


def _check_split(split: str, where: str) -> None:
    if _SPLIT.fullmatch(split):
        return
    if "[" in split:
        raise UsageError(
            f'"{split}" is a part of a split, and only whole splits are read',
            where=where,
            mend=f"Write  :{split.partition('[')[0]}  and take the first rows of it (--limit N, max_samples: N); a part "
            'of it is what "split" of an entry in dataset_info.json can name.',
        )
    raise UsageError(f'"{split}" is no name of a split', where=where, mend="For example  :train  or  :train+test")


def _folder_of(query: str, where: str) -> str | None:
    known = parse_qs(query, keep_blank_values=True)
    for key in known:
        if key != "folder":
            raise UsageError(f'unknown key "{key}"', where=where, mend=did_you_mean(key, ["folder"]) or None)
    return known["folder"][-1].strip("/") or None if "folder" in known else None
