"""The errors that all packages raise: what is wrong, where, how to mend it, and the exit code it ends with.

TunekitError              4  a fault of ours, unless a subclass says otherwise
├── UsageError            2  wrong usage, config or input file
├── DataError             1  the data has faults
├── StoppedError          3  stopped early; the message names the command that goes on
└── StoppedByUser       130  stopped by Ctrl-C or SIGTERM after saving
Interrupted (BaseException) 130  Ctrl-C or SIGTERM in the middle of something; what was there before is intact
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence


class TunekitError(Exception):
    """One fault, told in a few lines: ``what`` happened, ``where`` (file, row, key), and how to ``mend`` it."""

    exit_code = 4

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.mend = what, where, mend

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.mend}" if self.mend else text


class UsageError(TunekitError):
    """The command line, a config or an input file cannot be used as it is."""

    exit_code = 2


class DataError(TunekitError):
    """The data was read, and has faults."""

    exit_code = 1


class StoppedError(TunekitError):
    """Stopped early with the work so far kept, e.g. on a full disk."""

    exit_code = 3


class StoppedByUser(TunekitError):
    """The user (or the scheduler) asked to stop, and what was done so far is saved."""

    exit_code = 130


class Interrupted(BaseException):
    """Raised by the signal handlers of ``registry.command``; no ``except Exception`` can swallow it."""


class Faults(UsageError):
    """Several faults of one file or config, reported together."""

    def __init__(self, where: str, faults: Sequence[str], *, mend: str | None = None) -> None:
        self.faults = tuple(faults)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        listed = "\n".join("  - " + fault.replace("\n", "\n    ") for fault in faults)
        super().__init__(f"{count}\n{listed}", where=where, mend=mend)


class RowFault(Exception):
    """Why one row cannot become a record: the ``field`` it is about and the ``reason`` in a short phrase."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f'field "{field}": {reason}')
        self.field, self.reason = field, reason


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names that look most like ``name``, best first; empty where nothing is close."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    return [by_folded[m] for m in difflib.get_close_matches(name.casefold(), by_folded, n=most, cutoff=0.6)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint such as ``Did you mean "qwen"?``; empty where nothing is close."""
    names = nearest(name, known)
    quoted = " or ".join(f'"{n}"' for n in names)
    return f"Did you mean {quoted}?" if names else ""


def known_hint(name: str, known: Iterable[str]) -> str:
    """``did_you_mean``, and then all that is known, as a sentence of its own."""
    names = list(known)
    return f"{did_you_mean(name, names)} Known: {', '.join(names)}.".lstrip()


def reason_of(error: OSError) -> str:
    """Why the system would not write, in words."""
    words = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "the file system is read-only",
        errno.EFBIG: "a file would be larger than the file system allows",
        errno.EIO: "the disk reports an error",
    }
    return words.get(error.errno or 0, error.strerror or str(error))


def from_os_error(error: OSError, doing: str) -> TunekitError:
    """An ``OSError`` as one of ours: a full disk is resumable (3), all else is a matter of the path given (2)."""
    where = str(error.filename) if error.filename else None
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoppedError(
            f"the disk is full while {doing}",
            where=where,
            mend="Free some space and run the same command again; files that were there before are intact.",
        )
    return UsageError(f"cannot go on {doing}: {error.strerror or error}", where=where)
