"""The start of a row as an example for a report, without the secrets and personal data that may stand in it."""

from __future__ import annotations

from datakit.augment.filters.parts import text_of
from datakit.summary import visible
from datakit.validate.faults import Fault
from datakit.validate.hidden import as_example
from registry.records import Record

SHOWN = 200  # characters
LOOKED_AT = 4_000  # characters that are searched for secrets: one that begins in what is shown may end behind it


def example_of(record: Record) -> str | None:
    """The first characters of a row on one line; None where what looks like a secret stands near them."""
    text = text_of(record)[:LOOKED_AT]
    if text and not as_example(Fault("", "", "", text)).value:
        return None
    line = visible(" ".join(text.split()))
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
