"""Rows with pictures, films or sound: only text is encoded, so they are refused with what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.datasets import Layout
from registry.errors import RowFault
from registry.records import Record

# key of "columns" -> what stands in the text for each of them
PLACES = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}


def media_columns(layout: Layout) -> list[str]:
    """The kinds of media that rows of this layout may hold."""
    return [kind for kind in PLACES if getattr(layout.columns, kind)]


def check_no_media(row: Mapping[str, Any], record: Record, layout: Layout) -> None:
    """Raise ``RowFault`` for a row that holds media, with how many, and how many places its texts have for them."""
    for kind in media_columns(layout):
        held = row.get(getattr(layout.columns, kind))
        if held:
            many = len(held) if isinstance(held, list) else 1
            messages: Any = getattr(record, "messages", None) or getattr(record, "prompt", ())
            places = sum(message.content.count(PLACES[kind]) for message in messages)
            raise RowFault(kind, f"it has {many} of them for {places} {PLACES[kind]}, and only text is encoded")
