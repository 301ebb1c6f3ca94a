"""Chat templates as data: one YAML file each, loaded by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from registry.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class Token:
    """A slot that is one id: a named token, or the tokenizer's own ``bos_token`` or ``eos_token``."""

    text: str | None = None
    of: Literal["bos_token", "eos_token"] | None = None


Slot = str | Token


@dataclass(frozen=True, slots=True)
class Template:
    """How a conversation is spelled: slots for each role, with ``{{content}}`` where the text goes.

    ``system_in_user`` puts the system slot inside the first user slot (Llama 2 style). With ``replace_eos`` the
    first stop word becomes the end-of-sequence token; with ``efficient_eos`` replies carry no end marker of their
    own. ``thinking`` is set for models that think before they answer: ``whole`` writes both ``thought_words`` around
    an empty thought, ``closing`` the second alone. ``tool_call_words`` may stand around calls in a row's text.
    ``tool_format`` (None: tools are not told in the prompt) and ``function_format`` name ``registry.tools``.
    ``media`` names the plug-in that spells pictures and sound, "" for text alone. Semantics: LLaMA-Factory 0.9.5.
    """

    name: str
    user: tuple[Slot, ...]
    assistant: tuple[Slot, ...]
    system: tuple[Slot, ...]
    observation: tuple[Slot, ...]
    function: tuple[Slot, ...]
    prefix: tuple[Slot, ...] = ()
    default_system: str = ""
    stop_words: tuple[str, ...] = ()
    replace_eos: bool = False
    efficient_eos: bool = False
    system_in_user: bool = False
    tool_format: str | None = "default"
    function_format: str = "default"
    thinking: Literal["", "whole", "closing"] = ""
    thought_words: tuple[str, str] = ("<think>\n", "\n</think>\n\n")
    tool_call_words: tuple[str, str] = ("<tool_call>", "</tool_call>")
    replace_jinja_template: bool = False
    media: str = ""


def template_names() -> list[str]:
    """The names of all built-in templates, sorted."""
    return sorted(f.name.removesuffix(".yaml") for f in files(__name__).iterdir() if f.name.endswith(".yaml"))


def load_template(name: str) -> Template:
    """The built-in template called ``name``. Raises ``UsageError`` with the nearest names."""
    if name not in template_names():
        known = template_names()
        raise UsageError(
            f'unknown template "{name}"', mend=f"{did_you_mean(name, known)} Known: {', '.join(known)}".strip()
        )
    return _load(name)


@cache
def _load(name: str) -> Template:
    raw: dict[str, Any] = yaml.safe_load((files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))
    return template_from(name, raw)


def template_from(name: str, raw: Mapping[str, Any]) -> Template:
    """A template from its YAML mapping."""
    roles = ("user", "assistant", "system", "observation", "function", "prefix")
    slots = {role: tuple(_slot(s) for s in raw[role]) for role in roles}
    plain = {
        key: raw[key] for key in ("default_system", "replace_eos", "efficient_eos", "system_in_user", "tool_format")
    }
    return Template(name=name, **slots, stop_words=tuple(raw["stop_words"]), **plain)  # type: ignore[arg-type]


def _slot(raw: Any) -> Slot:
    if isinstance(raw, str):
        return raw
    return Token(of=raw["token_of"]) if "token_of" in raw else Token(text=raw["token"])
