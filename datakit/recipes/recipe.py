"""Recipes: prompts as files, found by name and language or by path, checked when loaded and rendered for each call.

The shipped ones are ``prompts/NAME/LANGUAGE.md``, with further steps beside them as ``prompts/NAME/STEP.LANGUAGE.md``.
docs/recipes.md tells how to write one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prompts
from datakit.recipes.body import Known, Part, compile_part, parts_of, render_part
from datakit.recipes.front_matter import LISTS, MAKES, OUTPUTS, SEEDS, Head, read_head, split_file
from registry.errors import Faults, UsageError, did_you_mean, from_os_error, nearest

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["LISTS", "MAKES", "OUTPUTS", "SEEDS", "Prompt", "Recipe", "languages_of", "load_recipe", "recipe_names"]

FOLDER = Path(prompts.__file__).parent
ENDING = ".md"
DIGEST_BYTES = 16
# What a seed is to a body, by ``seeds``.
SEED_FIELDS = {
    "chat": ("system", "turns", "question", "answer", "is_single"),
    "pool": ("system", "turns", "question", "answer", "is_single"),
    "text": ("text",),
    "none": (),
}


@dataclass(frozen=True)
class Prompt(Head):
    """One file: its head, and its messages. ``body`` is all behind the head, and begins at line ``body_line`` of ``path``."""

    path: str
    body: str
    body_line: int

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The messages as they are written: the system's, if any, comes first, the user's last."""
        return parts_of(self.body, self.body_line, self.path)

    @cached_property
    def digest(self) -> str:
        """32 hex digits of what is said and its version: neither name nor path nor the rest of the head matters."""
        said = json.dumps([self.version, [[part.role, part.text.strip()] for part in self.parts]])
        return hashlib.blake2b(said.encode(), digest_size=DIGEST_BYTES).hexdigest()

    @cached_property
    def known(self) -> Known:
        """What the body may name: see the table of values in docs/recipes.md."""
        given = {
            "seed": self.seeds in ("chat", "text"),
            "pool": self.seeds == "pool",
            "way": "ways" in self.data,
            "topic": "topics" in self.data,
            "texts": self.output == "texts" and self.makes == "same",
            "answer_a": self.output == "verdict",
            "answer_b": self.output == "verdict",
        }
        names = ("n", "already", *(name for name, is_given in given.items() if is_given), *self.inputs, *self.data)
        return Known(names, SEED_FIELDS[self.seeds])

    @cached_property
    def templates(self) -> tuple[Template, ...]:
        """The messages compiled and checked. Raises ``UsageError`` (``Faults`` for several) with file and line."""
        compiled: list[Template] = []
        faults: list[str] = []
        for part in self.parts:
            try:
                compiled.append(compile_part(part, self.known, self.path))
            except Faults as found:  # of one message; those of the others are told with them
                faults += found.faults
        if faults:
            raise Faults(self.path, faults)
        return tuple(compiled)

    def filled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """``inputs`` with what was given for them. Raises ``Faults`` for unknown names, and for what must be given."""
        known = ", ".join(self.inputs) or "none"
        faults = [
            f'there is no input "{name}". {did_you_mean(name, self.inputs)} Known: {known}'.replace("  ", " ")
            for name in given
            if name not in self.inputs
        ]
        values = {**self.inputs, **{name: value for name, value in given.items() if name in self.inputs}}
        missing = [name for name, value in values.items() if value is None]
        faults += [f'the input "{name}" must be given: --set {name}=…' for name in missing]
        if faults:
            raise Faults(f"recipe {self.name}", faults)
        return values

    def render(self, values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """(role, content) of each message; a system message that renders to nothing is left out.

        ``values`` come on top of the inputs' defaults, ``ways``, ``topics``, and ``n`` 1, ``already`` and ``topic`` empty.
        Raises ``UsageError`` with file, line and variable where the template fails, or an input was not given.
        """
        filled = {"n": 1, "already": (), "topic": "", **self.inputs, **self.data, **values}
        for name in self.inputs:
            if filled[name] is None:
                raise UsageError(f'the input "{name}" must be given', where=self.path, mend=f"--set {name}=…")
        said = [
            (part.role, render_part(template, filled, self.known))
            for part, template in zip(self.parts, self.templates, strict=True)
        ]
        return tuple((role, text) for role, text in said if text or role != "system")


@dataclass(frozen=True)
class Recipe:
    """A prompt, and the prompts of its further steps by their names."""

    name: str
    prompt: Prompt
    steps: Mapping[str, Prompt] = field(default_factory=dict)


def recipe_names() -> list[str]:
    """The names of all shipped recipes, sorted."""
    return sorted({path.parent.name for path in FOLDER.glob(f"*/*{ENDING}")})


def languages_of(name: str) -> list[str]:
    """The languages that a shipped recipe is written in, sorted. Raises ``UsageError`` for an unknown name."""
    names = recipe_names()
    if name not in names:
        raise UsageError(
            f'unknown recipe "{name}"',
            mend=f"{did_you_mean(name, names)} Known: {', '.join(names)}, or a file of yours that ends in {ENDING}".strip(),
        )
    return sorted(path.stem for path in (FOLDER / name).glob(f"*{ENDING}") if "." not in path.stem)


def load_recipe(name_or_path: str | Path, language: str = "en") -> Recipe:
    """The shipped recipe of that name, or the one in a file of the user's that ends in ``.md`` (in whatever language).

    Raises ``UsageError`` with the nearest names where there is none, and for every fault of the file: in its head all
    at once, in its messages with line and variable.
    """
    name = str(name_or_path)
    if name.endswith(ENDING):
        prompt = load_prompt(Path(name))
        return Recipe(prompt.name, prompt)
    known = languages_of(name)
    if language not in known:
        raise UsageError(
            f'the recipe "{name}" is not written in "{language}"',
            mend=f"--language {' or '.join(known)}, or a file of yours that ends in {ENDING}",
        )
    return _shipped(name, language)


@cache
def _shipped(name: str, language: str) -> Recipe:
    ending = f".{language}{ENDING}"
    steps = {path.name.removesuffix(ending): load_prompt(path) for path in sorted((FOLDER / name).glob(f"*{ending}"))}
    return Recipe(name, load_prompt(FOLDER / name / f"{language}{ENDING}"), steps)


def load_prompt(path: Path) -> Prompt:
    """One file, read and checked whole. Raises ``UsageError`` as ``load_recipe`` does."""
    where = str(path)
    yaml_text, body, body_line = split_file(_read(path), where)
    head: Head = read_head(yaml_text, where)
    keys = {name: getattr(head, name) for name in Head.__slots__}
    prompt = Prompt(**keys, path=where, body=body, body_line=body_line)
    _ = prompt.templates  # an unknown variable is told now, not on row 812
    return prompt


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        folder = path.parent
        beside = sorted(p.name for p in folder.glob(f"*{ENDING}")) if folder.is_dir() else []
        close = nearest(path.name, beside) or beside[:5]
        mend = f"Near it: {', '.join(close)}" if close else "datakit recipes lists the shipped ones."
        raise UsageError("no such file", where=str(path), mend=mend) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"not UTF-8: {error.reason} at byte {error.start}", where=str(path)) from None
    except OSError as error:
        raise from_os_error(error, "reading a recipe") from None
