"""Chat templates as data: one YAML file each, loaded by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

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
    ``tool_format`` (None: the JSON text of the tools stands in ``tool_slot`` as it is) and ``function_format`` name
    ``registry.tools``. ``replace_jinja_template`` says that models saved with this template get a chat template made
    from it, whatever their own was. ``media`` names the plug-in that spells pictures and sound, "" for text alone.
    Semantics: LLaMA-Factory 0.9.5.
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
    tool_slot: str = ""
    function_format: str = "default"
    thinking: Literal["", "whole", "closing"] = ""
    thought_words: tuple[str, str] = ("<think>\n", "\n</think>\n\n")
    tool_call_words: tuple[str, str] = ("<tool_call>", "</tool_call>")
    replace_jinja_template: bool = False
    media: str = ""


ROLES = ("prefix", "system", "user", "assistant", "observation", "function")
_LISTS = ("stop_words", "thought_words", "tool_call_words")
_PLAIN = tuple(field.name for field in fields(Template) if field.name not in ("name", *ROLES, *_LISTS))


@cache
def template_names() -> list[str]:
    """The names of all built-in templates, sorted."""
    return sorted(f.name.removesuffix(".yaml") for f in files(__name__).iterdir() if f.name.endswith(".yaml"))


def load_template(name: str, *, strict: bool = False) -> Template:
    """The built-in template called ``name``. Raises ``UsageError`` with the nearest names.

    ``strict`` takes the slots of LLaMA-Factory 0.9.5 also where these are plainly wrong (``fixed`` in the file).
    """
    if name not in template_names():
        known = template_names()
        alike = [other for other in known if _folded(other) == _folded(name)]
        hint = f'Did you mean "{alike[0]}"?' if alike else did_you_mean(name, known)
        raise UsageError(f'unknown template "{name}"', mend=f"{hint} Known: {', '.join(known)}".strip())
    return _load(name, strict)


def _folded(name: str) -> str:
    """A name without what is easily confused in it: case, and which sign stands between its words."""
    return name.casefold().replace("-", "_").replace(".", "_").replace(" ", "_")


@cache
def _load(name: str, strict: bool) -> Template:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    raw: dict[str, Any] = yaml.load((files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"), loader)
    if "alias_of" in raw:
        return replace(_load(raw["alias_of"], strict), name=name)
    fixed = raw.pop("fixed", {})
    return template_from(name, raw if strict else raw | fixed)


def alias_of(name: str) -> str | None:
    """The template that the built-in ``name`` is another name of, if it is."""
    first = (files(__name__) / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[1]
    key, _, value = first.partition(": ")
    return value if key == "alias_of" else None


def template_from(name: str, raw: Mapping[str, Any]) -> Template:
    """A template from its YAML mapping. What it leaves out is as in LLaMA-Factory 0.9.5: a text alone for system and
    user, a text and the end of sequence for the assistant (without it under ``efficient_eos``), functions as the
    assistant, observations as the user.
    """
    text = ["{{content}}"]
    own: dict[str, Any] = {"user": text, "system": text, "prefix": []} | dict(raw)
    own = {"assistant": text if own.get("efficient_eos") else [*text, {"token_of": "eos_token"}]} | own
    own = {"observation": own["user"], "function": own["assistant"]} | own
    given: dict[str, Any] = {role: tuple(_slot(s) for s in own[role]) for role in ROLES}
    given |= {key: tuple(own[key]) for key in _LISTS if key in own}
    given |= {key: own[key] for key in _PLAIN if key in own}
    given.setdefault("function_format", own.get("tool_format") or "default")
    return Template(name=name, **given)


def _slot(raw: Any) -> Slot:
    if isinstance(raw, str):
        return raw
    return Token(of=raw["token_of"]) if "token_of" in raw else Token(text=raw["token"])
