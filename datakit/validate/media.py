"""Faults of rows with pictures, films or sounds: placeholders in the texts that do not match the paths beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from datakit.validate.faults import Fault, pointer

# field of the row -> what stands for one of its items in a text (LLaMA-Factory 0.9.5, extras/constants.py)
PLACEHOLDERS: Mapping[str, str] = {"images": "<image>", "videos": "<video>", "audios": "<audio>"}


def unmatched_media(data: Mapping[str, Any], texts: Iterable[str]) -> list[Fault]:
    """The faults of media fields, empty ones included. A single path may stand for a list of one."""
    found = []
    said = None
    for field, placeholder in PLACEHOLDERS.items():
        if field not in data:
            continue
        items = data[field]
        said = "\n".join(texts) if said is None else said
        count = len(items) if isinstance(items, list) else int(bool(items))
        places = said.count(placeholder)
        if places != count:
            reason = f"{count} {field} and {places} {placeholder} in the texts"
            found.append(Fault("MM001", pointer(field), reason))
    return found
