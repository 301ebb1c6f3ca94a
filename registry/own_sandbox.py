"""Chat templates in Jinja, compiled as transformers compiles them: the same sandbox, filters, globals and marks."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.errors import UsageError

if TYPE_CHECKING:  # jinja2 is loaded only where a template is
    from jinja2 import Template
    from jinja2.ext import Extension
    from jinja2.nodes import Node
    from jinja2.parser import Parser

# The names under which a rendering is given what {% generation %} and {% endgeneration %} are to write.
BEGIN, END = "generation_begins_here", "generation_ends_here"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled template. ``marked``: it has ``{% generation %}`` blocks; ``captured``: some of them stand inside a
    macro, call, filter or set block, whose text may be changed before it is written."""

    template: Template
    marked: bool
    captured: bool


def compile_template(source: str) -> Compiled:
    """``source`` ready to be rendered. Raises ``UsageError`` where it is no template."""
    from jinja2 import TemplateError, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _generation_tag()]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    try:
        tree = environment.parse(source)
        template = environment.from_string(tree)
    except (TemplateError, RecursionError) as error:
        raise UsageError(f"the tokenizer's chat template does not compile: {error}") from None

    def has_marks(node: Node) -> bool:
        return any(name.name == BEGIN for name in node.find_all(nodes.Name))

    capturing = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock)
    return Compiled(template, has_marks(tree), any(has_marks(node) for node in tree.find_all(capturing)))


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)  # Jinja's own filter would escape for HTML


def _raise_exception(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _generation_tag() -> type[Extension]:
    """``{% generation %} … {% endgeneration %}``: transformers' mark around what the model says.

    Its body is written between the two texts that the rendering is given, which are nothing unless it asks for marks.
    Variables set inside do not leak, as with transformers, where the body is that of a call block.
    """
    from jinja2 import nodes
    from jinja2.ext import Extension

    class GenerationTag(Extension):
        tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

        def parse(self, parser: Parser) -> list[Node]:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            begin, end = (nodes.Output([nodes.Name(name, "load")]).set_lineno(line) for name in (BEGIN, END))
            return [begin, nodes.Scope(body).set_lineno(line), end]

    return GenerationTag
