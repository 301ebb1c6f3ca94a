"""Which names hold secrets, whose values are never printed, logged or written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "…"
WORDS = {"key", "token", "secret", "password", "webhook"}


def is_secret(name: str) -> bool:
    """Whether an option or key called ``name`` holds a secret; ``hf_hub_token`` does, ``max_new_tokens`` does not."""
    return bool(WORDS & set(re.split(r"[^a-z]+", name.lower())))


def masked(values: Any) -> Any:
    """The same mappings and lists with "…" for every secret that is set, however deep, and for passwords in addresses."""
    if isinstance(values, Mapping):
        return {k: HIDDEN if v and is_secret(str(k)) else masked(v) for k, v in values.items()}
    if isinstance(values, list | tuple):
        return [masked(v) for v in values]
    return re.sub(r"(?<=://)[^/@\s]+@", f"{HIDDEN}@", values) if isinstance(values, str) else values
