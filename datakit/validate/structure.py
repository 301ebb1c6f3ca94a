"""The thorough look at the structure of one row: every fault of it, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from datakit.validate.faults import Fault
from datakit.validate.media import PLACEHOLDERS, unmatched_media
from datakit.validate.side_by_side import faults_side_by_side
from datakit.validate.texts import texts_of
from datakit.validate.turns import faults_of_turns
from registry.datasets import Layout

# formatting (see registry.formats.READERS) -> what finds the faults of its rows
CHECKS: Mapping[str, Callable[[Mapping[str, Any], Layout], list[Fault]]] = {
    "alpaca": faults_side_by_side,
    "sharegpt": faults_of_turns,
    "openai": faults_of_turns,
}


def faults_of(data: Mapping[str, Any], layout: Layout) -> list[Fault]:
    """Every fault of a row that can be told without looking into its texts.

    A row without an error among them becomes a record (``registry.formats.READERS``), and none with an error that
    the readers know of does.
    """
    found = CHECKS[layout.formatting](data, layout)
    if any(field in data for field in PLACEHOLDERS):
        found += unmatched_media(data, (text.text for text in texts_of(data, layout)))
    return found
