"""Requests in batches: files of many, answered in hours for less, through the batch endpoints of OpenAI and Zhipu."""

from __future__ import annotations

from collections.abc import Sequence

from datakit.augment.accounts import Account
from datakit.augment.batch.desk import VendorDesk
from datakit.augment.batch.dispatch import BatchDispatch
from datakit.augment.batch.notes import Notes, notes_path
from datakit.augment.batch.pace import Pace
from datakit.augment.budget import Budget
from datakit.augment.options import AugmentOptions
from datakit.augment.store import AnswerStore


def open_batches(
    options: AugmentOptions,
    accounts: Sequence[Account],
    store: AnswerStore,
    budget: Budget,
    provider: str,
    pace: Pace | None = None,
) -> BatchDispatch:
    """What sends a run's requests in batches, with the batches of earlier runs on this store taken up again.

    The store has to be held by this run (``ensure_writable``). Raises ``UsageError`` where a package is missing, or
    where the notes about earlier batches cannot be read.
    """
    return BatchDispatch(
        [VendorDesk(provider, account, options.timeout_s) for account in accounts],
        store,
        Notes(notes_path(store.path)),
        budget,
        provider=provider,
        attempts=options.attempts,
        pace=pace or Pace(),
    )


__all__ = ["BatchDispatch", "Pace", "open_batches"]
