"""The codes of all faults, read from codes.yaml, and the level that each has in one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml

from registry.errors import UsageError, did_you_mean

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of codes.yaml, whose head says what the fields mean."""

    code: str
    level: Level
    title: str
    mend: str
    fixable: bool = False
    stages: tuple[str, ...] = ()
    unreadable: bool = False
    opt_in: bool = False


@cache
def all_codes() -> Mapping[str, Code]:
    """Every code there is, in the order of the file."""
    text = (files("datakit.validate") / "codes.yaml").read_text(encoding="utf-8")
    entries = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {name: Code(name, **{**entry, "stages": tuple(entry.get("stages", ()))}) for name, entry in entries.items()}


def levels_of(
    stage: str | None = None, *, deny: Iterable[str] = (), warn: Iterable[str] = (), allow: Iterable[str] = ()
) -> dict[str, Level]:
    """Code → its level in a run for ``stage``; faults whose code is not in it are not looked for, or passed over.

    ``deny`` makes codes errors, ``warn`` warnings, and ``allow`` takes them out. A name is a code (``SC003``) or a
    family (``SC``, ``SC*``), and may be several of them with commas between; a code goes before its family.
    Raises ``UsageError`` for unknown names, names given to two options, and for unreadable rows let pass.
    """
    levels: dict[str, Level] = {
        code.code: "warning" if stage is not None and code.stages and stage not in code.stages else code.level
        for code in all_codes().values()
        if not code.opt_in
    }
    said = {"--deny": _names(deny, "--deny"), "--warn": _names(warn, "--warn"), "--allow": _names(allow, "--allow")}
    _check_once(said)
    for whole_family in (True, False):
        for flag, names in said.items():
            for name in names:
                if (name in all_codes()) != whole_family:
                    _set(levels, name, flag)
    return levels


def _set(levels: dict[str, Level], name: str, flag: str) -> None:
    for code in all_codes().values():
        if code.code != name and code.code[:2] != name:
            continue
        if code.unreadable and flag != "--deny":
            if code.code == name:
                raise UsageError(f"{name} is for rows that cannot be read, so none can be kept", where=flag)
        elif flag == "--allow":
            levels.pop(code.code, None)
        else:
            levels[code.code] = "error" if flag == "--deny" else "warning"


def _names(given: Iterable[str], flag: str) -> list[str]:
    """The codes and families that an option names, in capitals."""
    families = {code[:2] for code in all_codes()}
    names = []
    for name in (part.strip().upper().removesuffix("*") for text in given for part in text.split(",")):
        if name not in all_codes() and name not in families:
            hint = did_you_mean(name, [*all_codes(), *families])
            raise UsageError(
                f'there is no code "{name}"',
                where=flag,
                mend=f"{hint} Families: {', '.join(sorted(families))}. All codes: docs/validate.md".lstrip(),
            )
        names.append(name)
    return names


def _check_once(said: Mapping[str, list[str]]) -> None:
    flags: dict[str, str] = {}
    for flag, names in said.items():
        for name in names:
            if flags.setdefault(name, flag) != flag:
                raise UsageError(
                    f"{name} is given to {flags[name]} and to {flag}", where=flag, mend="Keep one of them."
                )
