"""Which names hold secrets, whose values are never printed, logged or written."""

from __future__ import annotations

import re

WORDS = {"key", "token", "secret", "password", "webhook"}


def is_secret(name: str) -> bool:
    """Whether an option or key called ``name`` holds a secret; ``hf_hub_token`` does, ``max_new_tokens`` does not."""
    return bool(WORDS & set(re.split(r"[^a-z]+", name.lower())))
