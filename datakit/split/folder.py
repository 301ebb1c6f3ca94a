"""The files that a split writes: one for each side in one folder, and nothing of an earlier split beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datakit.split.choose import NAMES, TEST, TRAIN, VAL
from datakit.targets import check_target, same_file
from registry.errors import UsageError
from registry.folders import base_name, container_of, is_sidecar
from registry.remote import cloud, is_remote

REJECTS_NAME = "split.rejects.jsonl"


def side_files(folder: str, ext: str, rejects: str, sources: Sequence[str], *, with_test: bool) -> dict[int, str]:
    """The file of each side. Raises ``UsageError`` where one cannot be written, or would stand beside one of another split.

    A ``test`` file of an earlier split, beside a ``train`` file of this one, may hold the very rows that are trained on.
    """
    if not is_remote(folder) and Path(folder).exists() and not Path(folder).is_dir():
        raise UsageError("this is a file, a folder is needed", where=f"--out-dir {folder}")
    ending = ext if ext.startswith(".") else f".{ext}"
    sides = [TRAIN, VAL, *([TEST] if with_test else [])]
    targets = {side: f"{folder}/{NAMES[side]}{ending}" for side in sides}
    for target in targets.values():
        check_target(target, sources)
        if same_file(rejects, target):
            raise UsageError("rows and rejects cannot go to the same file", where=f"--rejects {rejects}")
    left = sorted(name for name in _names_in(folder) if _is_side(name) and f"{folder}/{name}" not in targets.values())
    if left:
        raise UsageError(
            f"{', '.join(left)} would be left beside this split and may hold the same rows",
            where=f"--out-dir {folder}",
            mend="Delete what is left of an earlier split, or choose another folder.",
        )
    return targets


def _names_in(folder: str) -> list[str]:
    if is_remote(folder):
        try:
            return [base_name(file) for file in cloud.expand(folder)]
        except UsageError:  # there is nothing yet
            return []
    return [path.name for path in Path(folder).iterdir()] if Path(folder).is_dir() else []


def _is_side(name: str) -> bool:
    return name.partition(".")[0] in NAMES and container_of(name) is not None and not is_sidecar(name)
