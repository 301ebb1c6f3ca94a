"""The body of a recipe file: its messages as Jinja in a sandbox, checked when loaded, told by file, line and variable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from datakit.recipes.front_matter import told_by_line
from registry.errors import Faults, UsageError, did_you_mean

if TYPE_CHECKING:  # jinja2 is loaded only where a recipe is
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

ROLES = ("system", "user", "assistant")
TURN_FIELDS = ("role", "content")
_MARK = re.compile(r"\s*<!--\s*([A-Za-z]+)\s*-->\s*")
_QUOTED = re.compile(r"'([^']*)'(?! object)")  # jinja2: 'x' is undefined; 'dict object' has no attribute 'y'
MOST_CHARACTERS = 4_000_000  # of one message: more than any model reads


@dataclass(frozen=True, slots=True)
class Part:
    """One message of a body: who says it, its Jinja, and the line of the file (from 1) at which that begins."""

    role: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Known:
    """What a body may name: values, and the fields of a seed."""

    values: tuple[str, ...]
    seed_fields: tuple[str, ...]


def parts_of(body: str, line: int, where: str) -> tuple[Part, ...]:
    """Cut a body at its marks ``<!-- system -->``, ``<!-- user -->``; one without marks is all user message.

    Raises ``Faults`` for text before the first mark, a misspelt mark, a system message that is not the first, and where
    the last message is not the user's.
    """
    faults: list[tuple[int, str]] = []
    cuts: list[tuple[str, int]] = []  # role, index of the mark's line
    lines = body.split("\n")
    for i, text in enumerate(lines):
        if not (found := _MARK.fullmatch(text)):
            continue
        role = found.group(1).lower()
        if role in ROLES:
            cuts.append((role, i))
        elif hint := did_you_mean(role, ROLES):
            faults.append((line + i, f'unknown mark "{role}". {hint} Known: {", ".join(ROLES)}'))
    if not cuts:
        parts = [Part("user", body, line)]
    else:
        if "".join(lines[: cuts[0][1]]).strip():
            faults.append((line, "text before the first mark belongs to no message"))
        ends = [i for _, i in cuts[1:]] + [len(lines)]
        parts = [
            Part(role, "\n".join(lines[i + 1 : end]), line + i + 1) for (role, i), end in zip(cuts, ends, strict=True)
        ]
    faults += [
        (part.line - 1, "the system message must come first, and once") for part in parts[1:] if part.role == "system"
    ]
    if parts[-1].role != "user" or not parts[-1].text.strip():
        faults.append((parts[-1].line, 'the last message must be the user\'s, and not empty: "<!-- user -->"'))
    if faults:
        raise Faults(where, told_by_line(faults))
    return tuple(parts)


def compile_part(part: Part, known: Known, where: str) -> Template:
    """Compile one message and check all that it names.

    Raises ``UsageError`` for a fault in its syntax, ``Faults`` for unknown variables, fields, filters and tests, for
    attributes that the sandbox refuses, and for tags that would read other files.
    """
    from jinja2 import TemplateSyntaxError

    environment = _environment()
    source = _padded(part)
    try:
        tree = environment.parse(source, where, where)
        faults = list(_faults(tree, known, environment))
        if faults:
            raise Faults(where, told_by_line(faults))
        code = environment.compile(source, where, where)
        return environment.template_class.from_code(environment, code, environment.make_globals(None))
    except TemplateSyntaxError as error:
        raise UsageError(
            f"the template cannot be read: {error.message}", where=f"{where}, line {error.lineno}"
        ) from None
    except RecursionError:
        raise UsageError("the template is nested too deeply", where=where) from None


def render_part(template: Template, values: Mapping[str, Any], known: Known) -> str:
    """One message as text, without blank lines around it. Raises ``UsageError`` with file, line and variable."""
    from jinja2 import TemplateError

    try:
        text = template.render(values).strip()
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
        where = str(template.filename)
        line = _line_in(where, error.__traceback__)
        what, mend = _told(error, known)
        raise UsageError(what, where=f"{where}, line {line}" if line else where, mend=mend) from None
    if len(text) > MOST_CHARACTERS:
        raise UsageError(
            f"a prompt of {len(text):,} characters",
            where=str(template.filename),
            mend=f"At most {MOST_CHARACTERS:,} are sent.",
        )
    return text


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    """One environment for all bodies: no files, no chance, undefined names are errors."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Unknown(StrictUndefined):
        """An error in lists as well, which would else say "Undefined" in the prompt."""

        __slots__ = ()
        __repr__ = StrictUndefined._fail_with_undefined_error

    environment = ImmutableSandboxedEnvironment(
        undefined=Unknown, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )
    environment.filters["tojson"] = _to_json
    # The same seed must give the same request, or an answer that was paid for is not found again.
    del environment.filters["random"], environment.globals["lipsum"]
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)  # Jinja's own filter would escape for HTML


def _padded(part: Part) -> str:
    """Empty lines in front make the lines that Jinja names those of the file."""
    return "\n" * (part.line - 1) + part.text


def _faults(tree: Any, known: Known, environment: Any) -> Iterator[tuple[int, str]]:
    """(line, fault) for all that would fail when rendered, even in a branch that few seeds reach."""
    from jinja2 import meta, nodes

    for kind, named, there in (("filter", nodes.Filter, environment.filters), ("test", nodes.Test, environment.tests)):
        for used in tree.find_all(named):
            if used.name not in there:
                yield used.lineno, f'unknown {kind} "{used.name}". {did_you_mean(used.name, there)}'.rstrip()
                used.name = next(iter(there))  # Jinja looks for variables in nothing that it cannot compile
    unknown = meta.find_undeclared_variables(tree) - set(known.values) - set(environment.globals)
    for name in tree.find_all(nodes.Name):
        if name.name in unknown and name.ctx == "load":
            yield name.lineno, f'unknown variable "{name.name}". {_hint(name.name, known.values)}'
    for tag in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        yield tag.lineno, f"a recipe is one file: {type(tag).__name__.lower()} is not available"
    fields_of = _fields_of(tree, known)
    for got in tree.find_all((nodes.Getattr, nodes.Getitem)):
        field = _field(got)
        if field is None:
            continue
        fields = fields_of.get(got.node.name) if isinstance(got.node, nodes.Name) else None
        if field.startswith("_"):
            yield got.lineno, f'"{field}" is refused by the sandbox'
        elif fields and field not in fields:
            yield got.lineno, f'"{got.node.name}" has no field "{field}". {_hint(field, fields)}'


def _field(got: Any) -> str | None:
    """The field that ``a.b`` or ``a["b"]`` reads; None where it is computed."""
    from jinja2 import nodes

    if isinstance(got, nodes.Getattr):
        return got.attr
    return got.arg.value if isinstance(got.arg, nodes.Const) and isinstance(got.arg.value, str) else None


def _fields_of(tree: Any, known: Known) -> dict[str, tuple[str, ...]]:
    """Which names are seeds or turns throughout: ``seed``, and what runs over ``pool`` and ``seed.turns``."""
    from jinja2 import nodes

    found: dict[str, tuple[str, ...]] = {"seed": known.seed_fields}
    loops = [loop for loop in tree.find_all(nodes.For) if isinstance(loop.target, nodes.Name)]
    for loop in loops:
        if isinstance(loop.iter, nodes.Name) and loop.iter.name == "pool":
            found[loop.target.name] = known.seed_fields
        elif isinstance(loop.iter, nodes.Getattr) and loop.iter.attr == "turns":
            found[loop.target.name] = TURN_FIELDS
        else:
            found.pop(loop.target.name, None)
    stored = [name.name for name in tree.find_all(nodes.Name) if name.ctx in ("store", "param")]
    targets = [loop.target.name for loop in loops]
    # A name that is also set elsewhere, or runs over several things, may be anything.
    return {name: fields for name, fields in found.items() if stored.count(name) == targets.count(name) <= 1}


def _line_in(where: str, traceback: TracebackType | None) -> int | None:
    """The line of the template that was being rendered: Jinja puts its own lines into the traceback."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == where:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _told(error: Exception, known: Known) -> tuple[str, str | None]:
    """What went wrong while rendering, and the known names where one was unknown."""
    from jinja2 import TemplateNotFound, UndefinedError
    from jinja2.exceptions import SecurityError

    text = str(error)
    if isinstance(error, SecurityError):
        return f"refused by the sandbox: {text}", "A recipe may only read its values, and use Jinja's filters."
    if isinstance(error, TemplateNotFound):
        return "a recipe is one file: it cannot read others", None
    if isinstance(error, UndefinedError) and (names := _QUOTED.findall(text)):
        if "attribute" in text:
            return f'unknown field "{names[-1]}"', _hint(names[-1], (*known.seed_fields, *TURN_FIELDS))
        if names[-1] in known.values:
            return f'"{names[-1]}" has no value in this call', None
        return f'unknown variable "{names[-1]}"', _hint(names[-1], known.values)
    return f"the template fails: {text or type(error).__name__}", None


def _hint(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    return f"{did_you_mean(name, names)} Known: {', '.join(names)}".strip()
