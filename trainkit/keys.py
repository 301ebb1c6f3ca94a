"""Every key a run config may hold, by name: its type and range, and whether it is used, accepted, refused or read as another."""

from __future__ import annotations

import json
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from registry.errors import did_you_mean
from registry.secrets import is_secret

STRATEGY_KEYS = ("eval_strategy", "save_strategy", "logging_strategy")  # YAML 1.1 reads their "no" as False
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
LARGEST = 2**63 - 1  # of a whole number: what files and random generators can hold
SHORT = reprlib.Repr()  # YAML aliases make values of any size
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother = 2, 200, 200


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of checking a config's keys.

    ``values`` of used keys with defaults filled in; ``faults``; ``not_built``: what stops a run and lets encoding
    pass; ``notes`` to print; ``written``: used key → the key that set it, which may be an older or another name;
    ``doubtful``: used keys whose value could not be read, so that the default in ``values`` says nothing.
    """

    values: dict[str, Any]
    faults: list[str] = field(default_factory=list)
    not_built: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)


@cache
def key_table() -> dict[str, dict[str, Any]]:
    """The table in ``keys.yaml``: key → type, default, status (used, accepted, refused, renamed), help, why."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((files(__package__) / "keys.yaml").read_text(encoding="utf-8"), Loader=loader)


def check_keys(raw: Mapping[str, Any], lines: Mapping[str, int] | None = None, *, training: bool = True) -> Checked:
    """Check every key of ``raw`` against the table; ``lines`` tells where in the file each stands.

    Nothing is raised: all faults come back together, each with the key's line and how to mend it. Without
    ``training`` a refused key that is planned goes to ``not_built`` instead.
    """
    table = key_table()
    checked = Checked({key: _from_default(spec) for key, spec in table.items() if spec["status"] == "used"})
    for written, value in raw.items():
        at = f"line {lines[written]}, " if lines and written in lines else ""
        key, spec = written, table.get(str(written))
        if spec is None:
            checked.faults.append(f'{at}"{key}" is not a key. {did_you_mean(str(key), table)}'.rstrip())
            continue
        if spec["status"] == "renamed":
            key, spec = spec["to"], table[spec["to"]]
            if spec["status"] != "used" or key in raw:
                checked.faults.append(f'{at}"{written}" is now called "{key}"')
                continue
            checked.notes.append(f"{written} is now called {key}; it is read as that")
        if spec["status"] == "refused":
            if not _harmless(value, spec):
                waits = spec.get("coming") and not training
                (checked.not_built if waits else checked.faults).append(f'{at}"{key}": {spec["why"]}')
            continue
        try:
            value = coerce(key, value, spec)
        except ValueError as error:
            checked.faults.append(f'{at}"{key}": {error}')
            checked.doubtful.add(key)
            continue
        if spec["status"] == "accepted":
            if value != _from_default(spec):
                checked.notes.append(f"{key} has no effect here: {spec['why']}")
        elif spec["status"] == "translated":
            _translate(checked, raw, key, value, at)
        else:
            checked.values[key] = value
            checked.written[key] = written
    return checked


def _translate(checked: Checked, raw: Mapping[str, Any], key: str, value: Any, at: str) -> None:
    """Set the keys that a value of another trainer's key stands for, unless something else was said about them."""
    table = key_table()
    for target, meant in table[key]["means"][value].items():
        other = checked.written.get(target, target)
        said = checked.values[target] if target in checked.written else meant
        if target in raw:
            other, said = target, raw[target]
        if not _equal(said, meant, table[target]):
            checked.faults.append(
                f'{at}"{key}: {_lower(value)}" means {target}: {_lower(meant)}, and "{other}" says another thing'
            )
            continue
        checked.values[target] = meant
        checked.written.setdefault(target, key)
        checked.notes.append(f"{key}: {_lower(value)} is read as {target}: {_lower(meant)}")


def _lower(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from_default(spec: Mapping[str, Any]) -> Any:
    return coerce("", spec.get("default"), spec) if spec.get("default") is not None else None


def _harmless(value: Any, spec: Mapping[str, Any]) -> bool:
    return any(_equal(value, other, spec) for other in (spec.get("default"), None, *spec.get("unless", ())))


def _equal(value: Any, other: Any, spec: Mapping[str, Any]) -> bool:
    """Whether both mean the same, however a number, a truth or a word is spelled: 0 and 0.0, "none" and "None"."""
    if isinstance(value, str) and isinstance(other, str | bool) and value.casefold() == str(other).casefold():
        return True
    if value == other and type(value) is type(other):
        return True
    try:
        return coerce("", value, spec) == coerce("", other, spec)
    except ValueError:
        return False


def coerce(key: str, value: Any, spec: Mapping[str, Any]) -> Any:
    """``value`` as the type, choice and range that ``spec`` asks for; text is read as a number where it is one.

    Raises ``ValueError`` with what is expected and, for choices, the nearest one.
    """
    if key in STRATEGY_KEYS and value is False:
        value = "no"
    kind = spec["type"]
    if value is None or value == "null":
        if spec.get("default") is None or spec.get("null_ok"):
            return None
        raise ValueError(f"must not be null; expected {kind}")
    value = _typed(key, value, kind)
    if isinstance(value, str):
        value = spec.get("aliases", {}).get(value, value)
    choices = spec.get("choices")
    if choices and value not in choices:
        raise ValueError(
            f'"{value}" is not one of {", ".join(map(str, choices))}. {did_you_mean(str(value), map(str, choices))}'.rstrip()
        )
    low, high = spec.get("min"), spec.get("max")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value != value or (low is not None and value < low):
            raise ValueError(f"is {value}, and must be at least {low}")
        if abs(value) > (LARGEST if isinstance(value, int) else sys.float_info.max):
            raise ValueError("is too large a number")
        if high is not None and value > high:
            raise ValueError(f"is {value}, and must be at most {high}")
    return value


def _typed(key: str, value: Any, kind: str) -> Any:
    shown = "(hidden)" if is_secret(key) else SHORT.repr(value)
    if kind in ("str", "str|dict") and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    if kind == "str|dict" and isinstance(value, Mapping):
        return dict(value)
    if kind == "bool|words" and isinstance(value, list | tuple) and all(isinstance(i, str) for i in value):
        return " ".join(value)
    if kind in ("bool", "bool|str", "bool|words"):
        if isinstance(value, bool):
            return value
        if str(value).casefold() in TRUTHS:
            return TRUTHS[str(value).casefold()]
        if kind == "bool|str" or (kind == "bool|words" and isinstance(value, str)):
            return str(value)
    if kind in ("int", "float", "int|float") and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"expected {_worded(kind)}, not {shown}") from None
        except OverflowError:
            raise ValueError("is too large a number") from None
        if kind == "float":
            return number
        if number == int(number) if number == number and abs(number) != float("inf") else False:
            return int(number)
        if kind == "int|float":
            return number
    if kind in ("list[str]", "list[float]"):
        items = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if isinstance(items, list | tuple) and not any(isinstance(i, dict | list) for i in items):
            if kind == "list[str]":
                return tuple(str(i) for i in items if i != "")
            try:
                return tuple(float(i) for i in items if i != "")
            except (TypeError, ValueError, OverflowError):
                raise ValueError(f"expected {_worded(kind)}, not {shown}") from None
    if kind == "dict":
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                raise ValueError(f"expected a mapping (or its JSON text): {error}") from None
        if isinstance(value, dict):
            return value
    raise ValueError(f"expected {_worded(kind)}, not {shown}")


def _worded(kind: str) -> str:
    words = {
        "str": "text",
        "int": "a whole number",
        "float": "a number",
        "int|float": "a number",
        "bool": "true or false",
    }
    words |= {"bool|words": "true, false or words"}
    words |= {"bool|str": "true, false or a path", "list[str]": "names with commas between", "dict": "a mapping"}
    words |= {"list[float]": "numbers with commas between", "str|dict": "a folder or a mapping"}
    return words.get(kind, kind)
