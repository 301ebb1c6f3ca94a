"""Scenarios: what a server does to whom, as data; read from YAML and checked whole before the first request."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from tests.datakit.faults.actions import ACTIONS
from tests.datakit.faults.bodies import RetryAfter, zhipu_codes
from tests.datakit.faults.caps import Cap

FOLDER = Path(__file__).with_name("scenarios")


class ScenarioError(ValueError):
    """A scenario cannot be used; the message tells all of its faults, one a line."""


@dataclass(frozen=True)
class When:
    """Which requests a rule is for: those that fulfil all that is given here.

    ``first``, ``after`` and ``every`` count the requests that fulfil the rest: the first n, all behind the first n, and
    each n-th. ``asked``: the n-th time that the same question comes. ``contains`` is looked for in the messages,
    ``key`` is the whole key as the client sends it, ``from_s`` and ``until_s`` are seconds since the first request.
    """

    share: float | None = None
    first: int | None = None
    after: int | None = None
    every: int | None = None
    asked: int | None = None
    contains: str | None = None
    model: str | None = None
    key: str | None = None
    from_s: float | None = None
    until_s: float | None = None
    max_tokens_below: int | None = None


@dataclass(frozen=True)
class Action:
    """A name in ``ACTIONS``, and its parameters."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """The first rule that fits a request decides; of several actions one is drawn."""

    do: tuple[Action, ...]
    when: When = When()


@dataclass(frozen=True)
class Latency:
    """Seconds from a request to its answer: fixed ``(s,)``, uniform ``(low, high)`` or lognormal ``(median, sigma)``."""

    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    values: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class BatchPlan:
    """How a batch goes: seconds in each state, how it ends, and the share of its requests that are done by then."""

    validating_s: float = 0.1
    running_s: float = 0.4
    finalizing_s: float = 0.0
    ends: Literal["completed", "failed", "expired"] = "completed"
    done: float = 1.0


@dataclass(frozen=True)
class Scenario:
    """All settings of a server. ``style`` auto: Zhipu's spelling under /api/paas/, OpenAI's elsewhere."""

    name: str = "honest"
    about: str = ""
    seed: int = 0
    style: Literal["auto", "openai", "zhipu"] = "auto"
    latency_s: Latency = Latency()
    caps: tuple[Cap, ...] = ()
    concurrency: int | None = None
    quota_headers: bool = False
    retry_after: RetryAfter = "seconds"
    refusal_code: str = ""
    rules: tuple[Rule, ...] = ()
    batch: BatchPlan = BatchPlan()


def scenario_names() -> list[str]:
    """The scenarios beside this file."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(source: str | Path | Mapping[str, Any] | Scenario, **changes: Any) -> Scenario:
    """A scenario by name, from a file, or from its data; ``changes`` are keys of the data that go on top.

    Raises ``ScenarioError`` with every fault that is found.
    """
    if isinstance(source, Scenario):
        return replace(source, **_built(Scenario, changes, "changes")) if changes else source
    if isinstance(source, Mapping):
        data, where = dict(source), "scenario"
    else:
        path = FOLDER / f"{source}.yaml" if str(source) in scenario_names() else Path(source)
        if not path.is_file():
            near = difflib.get_close_matches(str(source), scenario_names(), n=3, cutoff=0.4)
            raise ScenarioError(f"{source}: no such scenario or file. Near: {', '.join(near or scenario_names())}.")
        where = path.name
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as fault:
            raise ScenarioError(f"{path.name}: no YAML: {fault}") from fault
        if isinstance(data, dict):
            data.setdefault("name", path.stem)
    if not isinstance(data, dict):
        raise ScenarioError(f"{where}: a mapping is wanted, not {type(data).__name__}.")
    return Scenario(**_built(Scenario, {**data, **changes}, where))


def _built(kind: type, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    faults: list[str] = []
    found = _checked(kind, data, where, faults)
    if faults:
        raise ScenarioError("\n".join(faults))
    return found


def _checked(kind: type, data: Any, where: str, faults: list[str]) -> dict[str, Any]:
    """The fields of a dataclass out of a mapping: unknown, missing and mistyped ones become faults."""
    if not isinstance(data, Mapping):
        faults.append(f"{where}: a mapping is wanted, not {data!r}.")
        return {}
    hints = get_type_hints(kind)
    found = {}
    for name, value in data.items():
        at = f"{where}: {name}"
        if name not in hints:
            faults.append(f"{at}: unknown. Known: {', '.join(hints)}.{_near(str(name), hints)}")
        elif special := _SPECIAL.get((kind, name)):
            found[name] = special(value, at, faults)
        else:
            found[name] = _typed(value, hints[name], at, faults)
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    faults.extend(f"{where}: {name} is missing." for name in missing if name not in data)
    return found


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f' Did you mean "{near[0]}"?' if near else ""


def _typed(value: Any, hint: Any, where: str, faults: list[str]) -> Any:
    """``value`` as ``hint`` wants it: a plain type, a Literal, or a union of these; whole numbers pass as floats."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for choice in choices:
        if get_origin(choice) is Literal:
            if isinstance(value, str) and value in get_args(choice):
                return value
        elif choice is float:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
        elif isinstance(value, choice) and (choice is bool or not isinstance(value, bool)):
            return value
    wanted = " or ".join(
        ", ".join(get_args(c)) if get_origin(c) is Literal else "null" if c is type(None) else c.__name__
        for c in choices
    )
    faults.append(f"{where}: {value!r} is none of: {wanted}.")
    return value


def _latency(value: Any, where: str, faults: list[str]) -> Latency:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return Latency("fixed", (float(value),))
    if isinstance(value, Mapping) and len(value) == 1:
        (kind, numbers), *_ = value.items()
        right = isinstance(numbers, list) and len(numbers) == 2 and all(isinstance(n, int | float) for n in numbers)
        if kind in ("uniform", "lognormal") and right:
            return Latency(kind, tuple(map(float, numbers)))
    faults.append(
        f"{where}: {value!r} is neither seconds, {{uniform: [low, high]}} nor {{lognormal: [median, sigma]}}."
    )
    return Latency()


def _action(value: Any, where: str, faults: list[str]) -> Action:
    parameters = dict(value) if isinstance(value, Mapping) else {"action": value}
    name = parameters.pop("action", None)
    if name not in ACTIONS:
        faults.append(f"{where}: {name!r} is no action. Known: {', '.join(ACTIONS)}.{_near(str(name), ACTIONS)}")
        return Action("answer")
    at = f"{where}: {name}"
    known = {p.name: p for p in inspect.signature(ACTIONS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY}
    hints = get_type_hints(ACTIONS[name])
    for key, given in parameters.items():
        if key not in known:
            faults.append(f"{at}: {key}: unknown. Known: {', '.join(known) or 'none'}.{_near(key, known)}")
        else:
            parameters[key] = _typed(given, hints[key], f"{at}: {key}", faults)
    faults.extend(
        f"{at}: {key} is missing." for key, p in known.items() if p.default is p.empty and key not in parameters
    )
    if name == "zhipu" and "code" in parameters and parameters["code"] not in zhipu_codes():
        faults.append(f"{at}: code: {parameters['code']!r} is no code. Known: {', '.join(zhipu_codes())}.")
    return Action(name, parameters)


def _actions(value: Any, where: str, faults: list[str]) -> tuple[Action, ...]:
    several = value if isinstance(value, list) else [value]
    if not several:
        faults.append(f"{where}: no action is given.")
    return tuple(_action(one, where, faults) for one in several)


def _each(kind: type) -> Any:
    def read(value: Any, where: str, faults: list[str]) -> tuple[Any, ...]:
        if not isinstance(value, list):
            faults.append(f"{where}: a list is wanted, not {value!r}.")
            return ()
        return tuple(_one(kind, part, f"{where}[{i}]", faults) for i, part in enumerate(value))

    return read


def _one(kind: type, value: Any, where: str, faults: list[str]) -> Any:
    before = len(faults)
    found = _checked(kind, value, where, faults)
    return kind(**found) if len(faults) == before else None


# How the fields that are no plain values are read.
_SPECIAL: dict[tuple[type, str], Any] = {
    (Scenario, "latency_s"): _latency,
    (Scenario, "caps"): _each(Cap),
    (Scenario, "rules"): _each(Rule),
    (Scenario, "batch"): lambda value, where, faults: _one(BatchPlan, value, where, faults),
    (Rule, "when"): lambda value, where, faults: _one(When, value, where, faults),
    (Rule, "do"): _actions,
}
