"""One question to a model, and the key under which its answer is kept: a hash of all that shapes the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

KEY_VERSION = 1  # of how the key is made; another one gives other keys, so no answer is ever taken for another's
KEY_BYTES = 16


@dataclass(frozen=True)
class Request:
    """What is sent, and nothing that tells who asks or when: no key, no header, no position of a row.

    ``family`` names the servers that give the same answers (by default the address of the first one), ``messages`` are
    (role, content) pairs, ``sampling`` what goes beside them in the body (temperature, max_tokens, …), ``schema`` the
    JSON Schema that the answer is asked to keep where the server can, ``recipe`` a hash of the prompt's text and
    version, and ``sample`` counts answers to the same question (0, 1, …).
    """

    family: str
    model: str
    messages: tuple[tuple[str, str], ...]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    recipe: str = ""
    sample: int = 0

    @cached_property
    def spelled(self) -> bytes:
        """The request as canonical JSON: keys sorted, UTF-8; what is hashed, and kept beside the answer."""
        parts = {
            "version": KEY_VERSION,
            "family": self.family,
            "model": self.model,
            "messages": self.messages,
            "sampling": self.sampling,
            "schema": self.schema,
            "recipe": self.recipe,
            "sample": self.sample,
        }
        return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)

    @cached_property
    def key(self) -> str:
        """128 bits of BLAKE2b over ``spelled``, as 32 hex digits."""
        return hashlib.blake2b(self.spelled, digest_size=KEY_BYTES).hexdigest()
