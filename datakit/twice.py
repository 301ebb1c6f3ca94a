"""Sources that are read twice: stdin through a copy of it, files under the watch that they do not change meanwhile."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from registry.atomic import TEMPORARY_MARK
from registry.blocks import Item, read_blocks
from registry.errors import UsageError
from registry.remote import is_remote
from registry.sources import STDIN, open_binary
from registry.unchanged import Identity, identity


@dataclass(frozen=True)
class Source:
    """Files to read rows from as often as needed; ``copies`` holds, for each copy, the name it is known by."""

    files: Sequence[str]
    copies: Mapping[str, str]
    stamps: Mapping[str, Identity | None]  # what the files were at first

    @property
    def names(self) -> list[str]:
        """The files as the user knows them."""
        return [self.copies.get(file, file) for file in self.files]

    def items(self) -> Iterator[Item]:
        """Every row, JSON lines in blocks (see ``registry.blocks``), under the names by which the files are known."""
        for item in read_blocks(self.files):
            known = self.copies.get(item.file)
            yield replace(item, file=known) if known is not None else item

    def check_unchanged(self) -> None:
        """Raise ``UsageError`` where a file is not what it was when it was first read."""
        for file, stamp in self.stamps.items():
            if identity(file) != stamp:
                raise changed(file)


def changed(file: str) -> UsageError:
    """The error for a file that others wrote to in the meantime."""
    return UsageError(
        "the file changed between two readings of it, so its rows cannot be told apart; nothing was written",
        where=file,
        mend="Run the same command again when nobody writes to it.",
    )


@contextmanager
def readable_twice(files: Sequence[str], folder: str) -> Iterator[Source]:
    """``files`` as a source; stdin waits in a hidden file in ``folder``, which is gone when the block ends."""
    copies: dict[str, str] = {}
    named = list(files)
    try:
        if STDIN in files:
            copy = _copy_name(folder)
            copies[str(copy)] = STDIN
            with copy.open("wb") as handle:
                shutil.copyfileobj(open_binary(STDIN), handle, 1 << 20)
            named = [str(copy) if file == STDIN else file for file in files]
        yield Source(named, copies, {file: identity(file) for file in dict.fromkeys(named)})
    finally:
        for name in copies:
            Path(name).unlink(missing_ok=True)


def _copy_name(folder: str) -> Path:
    """On the disk that has to have room for the rows anyway, where that is one of this machine."""
    local = Path(tempfile.gettempdir() if is_remote(folder) else folder)
    local.mkdir(parents=True, exist_ok=True)
    return local / f".stdin{TEMPORARY_MARK}{uuid.uuid4().hex[:8]}.jsonl"
