"""What people are told of batches: where they stand, why they failed, what is left at the servers."""

from __future__ import annotations

from collections.abc import Sequence

from datakit.augment.batch.books import Flight
from datakit.augment.batch.desk import Standing
from datakit.augment.failures import FATAL, CallFailed, Kind

MOST_FAULTS = 3
MOST_NAMED = 5
_NOT_HERE = (403, 404)


def gone(failure: CallFailed) -> bool:
    """Whether this account has no such batch, file or path."""
    return failure.status in _NOT_HERE


def final(failure: CallFailed) -> CallFailed:
    """Why a run ends: a wrong key and a used-up quota as they are, all else as the reason to stop."""
    if failure.kind in FATAL or failure.kind is Kind.STOPPED:
        return failure
    more = ". Perhaps this server has no batch endpoint: leave --batch out" if gone(failure) else ""
    reason = f"{failure}".rstrip(". ") + more
    return CallFailed(Kind.STOPPED, reason, code="batch", status=failure.status)


def faults_told(standing: Standing) -> str:
    """Why a batch failed."""
    told = [f"{code}: {message}" if code else message for code, message in standing.faults]
    more = f" and {len(told) - MOST_FAULTS:,} more" if len(told) > MOST_FAULTS else ""
    return ("; ".join(told[:MOST_FAULTS]) + more).rstrip(". ") if told else "its server does not say why"


def batch_told(flights: Sequence[Flight]) -> str:
    """Where batches stand, in one line."""
    done = sum(flight.standing.done for flight in flights if flight.standing is not None)
    stands = ", ".join(dict.fromkeys(f.standing.status if f.standing else "sent" for f in flights))
    return f"in {counted(len(flights), 'batch')} ({stands}), {done:,} of {sum(f.size for f in flights):,} done"


def left_told(flights: Sequence[Flight]) -> str:
    """What a run that ends leaves behind."""
    names = [flight.note.id or f"tunekit {flight.note.tag}" for flight in flights]
    named = ", ".join(names[:MOST_NAMED]) + (" …" if len(names) > MOST_NAMED else "")
    count = sum(len(flight.left) for flight in flights)
    return (
        f"{counted(len(flights), 'batch')} with {counted(count, 'request')} left at the server ({named}), to go on there: "
        "the same command takes in the answers"
    )


def counted(count: int, what: str) -> str:
    """``1 batch``, ``2 batches``."""
    plural = "" if count == 1 else "es" if what.endswith("ch") else "s"
    return f"{count:,} {what}{plural}"
