"""The options of one step, checked: known names, values of the right kind, nothing missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datakit.options import pairs
from datakit.pipeline import augmenting
from datakit.pipeline.steps import OPTIONS, REQUIRED
from registry.datasets import FORMATTINGS
from registry.errors import UsageError, did_you_mean
from registry.formats import LAYOUTS
from registry.formats.targets import TARGETS
from registry.stages import KINDS
from registry.templates import template_names

STAGES = tuple(KINDS)


class _Wrong(Exception):
    """What belongs where something else stands."""


def check_options(verb: str, raw: Any, where: str, faults: list[str]) -> dict[str, Any]:
    """The options of a datakit step by their Python names; what is wrong goes to ``faults`` and is left out."""
    known = OPTIONS[verb]
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        faults.append(f"{where}: {verb} takes options, such as  {verb}: {{{known_line(verb)}}}, not {raw!r}")
        return {}
    found: dict[str, Any] = {}
    for key, value in raw.items():
        name = str(key).replace("-", "_")
        if name not in known:
            if verb == "augment" and augmenting.is_secret(name):
                faults.append(f'{where}: augment, "{key}": {augmenting.KEYS_ELSEWHERE}')
                continue
            faults.append(
                f'{where}: {verb} has no option "{key}". {did_you_mean(name, known)} Known: {", ".join(known)}'
            )
            continue
        try:
            checked = CHECKS[known[name]](value)
        except (_Wrong, UsageError) as wrong:
            faults.append(f'{where}: {verb}, "{key}": {wrong}')
            continue
        if checked is not None:
            found[name] = checked
    given = {str(key).replace("-", "_") for key in raw}
    missing = [name for name in REQUIRED[verb] if name not in given]
    if verb == "stats" and ("src" in given) == ("dataset" in given):
        missing.append("src or dataset (one of them)")
    if missing:
        faults.append(f"{where}: {verb} needs {', '.join(missing)}")
    if not all(name in found for name in REQUIRED[verb]):
        return {}
    if verb == "augment":
        faults += [f"{where}: augment, {fault}" for fault in augmenting.faults_of(found)]
    return found


def known_line(verb: str) -> str:
    """The required options of a verb as a hint."""
    return ", ".join(f"{name}: …" for name in REQUIRED[verb])


def read_words(raw: Any, where: str, faults: list[str]) -> list[str]:
    """A list of words as arguments; numbers are spelled out."""
    if raw is None:
        return []
    if not isinstance(raw, list) or any(isinstance(item, dict | list | bool) or item is None for item in raw):
        faults.append(
            f"{where} must be a list of texts and numbers, not {raw!r}; put yes, no, true, false and null in quotes"
        )
        return []
    return [str(item) for item in raw]


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise _Wrong(f"text belongs here, not {value!r}; put it in quotes" if value != "" else "it is empty")
    return value


def _path(value: Any) -> str | None:
    if value == "-":
        raise _Wrong("steps read and write files, not - (stdin or stdout)")
    return _text(value)


def _sources(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    checked = [_path(item) for item in listed]
    if not checked or None in checked:
        raise _Wrong("name a file, folder or glob, or a list of them")
    return [path for path in checked if path is not None]


def _names(value: Any) -> list[str] | None:
    if value is None:
        return None
    listed = value if isinstance(value, list) else str(_text(value)).split(",")
    return [str(_text(name)).strip() for name in listed]


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"true or false belongs here, not {value!r}")
    return value


def _count(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise _Wrong(f"a whole number above 0 belongs here, not {value!r}")
    return value


def _seed(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise _Wrong(f"a whole number from 0 on belongs here, not {value!r}")
    return value


def _number(
    least: float, most: float | None = None, *, above: bool = False, whole: bool = False
) -> Callable[[Any], float | None]:
    """Numbers from ``least`` on (or above it), up to ``most``."""
    wanted = f"a {'whole ' if whole else ''}number {'above' if above else 'from'} {least:g}" + (
        f" to {most:g}" if most is not None else "" if above else " on"
    )

    def check(value: Any) -> float | None:
        if value is None:
            return None
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or value < least or (above and value == least) or (most is not None and value > most):
            raise _Wrong(f"{wanted} belongs here, not {value!r}")
        return value

    return check


def _switch(value: Any) -> str | None:
    """A word or a number; YAML reads off as false."""
    if value is False:
        return "off"
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None if value is None else str(value)
    return _text(value)


def _recipe(value: Any) -> str | None:
    name = _path(value)
    if name is not None:
        augmenting.check_recipe(name)
    return name


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _Wrong(f"a number from 0 to 1 belongs here, not {value!r}")
    return float(value)


def _amount(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | None) or value == "":
        raise _Wrong(f"a count, a share or a word belongs here, not {value!r}")
    return None if value is None else str(value)


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        wrong = [key for key, item in value.items() if isinstance(item, dict | list | bool) or item is None]
        if wrong:
            raise _Wrong(f'the value of "{wrong[0]}" must be text; put it in quotes')
        return {str(key): str(item) for key, item in value.items()}
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise _Wrong(f"{{name: value}} or a list of name=value belongs here, not {value!r}")
    return pairs(listed, "name=value")


def _one_of(known: Callable[[], Sequence[str]]) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if value is not None and value not in known():
            raise _Wrong(f'"{value}" is not known. {did_you_mean(str(value), known())} Known: {", ".join(known())}')
        return value

    return check


# kind of an option (see datakit.pipeline.steps.OPTIONS) -> its check; null means: as if it were not there
CHECKS: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "source": _path,
    "sources": _sources,
    "input": _path,
    "output": _path,
    "folder": _path,
    "files": _path,
    "names": _names,
    "flag": _flag,
    "count": _count,
    "seed": _seed,
    "share": _share,
    "amount": _amount,
    "pairs": _pairs,
    "recipe": _recipe,
    "switch": _switch,
    "temperature": _number(0, 2),
    "score": _number(1, 10),
    "workers": _number(1, 4096, whole=True),
    "rate": _number(0, above=True),
    "limit": _number(0),
    "format": _one_of(lambda: ("auto", *LAYOUTS)),
    "target": _one_of(lambda: ("keep", *TARGETS)),
    "formatting": _one_of(lambda: FORMATTINGS),
    "stage": _one_of(lambda: STAGES),
    "template": _one_of(template_names),
}
