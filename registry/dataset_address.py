"""Where the rows of an entry of dataset_info.json lie when they are not in a file beside it: its keys as an address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from registry.remote import is_remote
from registry.remote.address import HubAddress

HUB_KEYS = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


def address_of(raw: Mapping[str, Any], split: str | None) -> str | None:
    """Where the rows lie, as a source, in LLaMA-Factory's order (as LLaMA-Factory 0.9.5); None for a local file.

    A hub goes first: ModelScope's where there is no other or USE_MODELSCOPE_HUB asks for it, then Openmind's by the
    same rule, else Hugging Face's. Then a script, a cloud's file, and a local file. ``split`` names whole splits.
    """
    hf, ms, om = (raw.get(key) for key in ("hf_hub_url", "ms_hub_url", "om_hub_url"))
    if ms and (not hf or uses_modelscope()):
        scheme, repo = "ms", ms
    elif om and (not hf or uses_openmind()):
        return None
    elif hf:
        scheme, repo = "hf", hf
    elif raw.get("script_url"):
        return None
    else:
        place = raw.get("cloud_file_name") or raw.get("file_name")
        return place if place and is_remote(place) else None
    return str(HubAddress(scheme, repo, None, None, raw.get("subset"), split, raw.get("folder")))


def uses_modelscope() -> bool:
    """Whether the environment asks for ModelScope in place of Hugging Face."""
    return _is_set("USE_MODELSCOPE_HUB")


def uses_openmind() -> bool:
    """Whether the environment asks for Openmind, which nothing is read from here."""
    return _is_set("USE_OPENMIND_HUB")


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("true", "y", "1")
