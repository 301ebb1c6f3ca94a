"""The tokenizer's own chat template (``template: null``): rendered in a sandbox and cut into turns by prefix."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from registry.errors import RowFault, UsageError
from registry.records import Message
from registry.render import RenderRules, Turn

if TYPE_CHECKING:  # jinja2 is loaded only where a template is
    from jinja2.ext import Extension
    from jinja2.nodes import Node
    from jinja2.parser import Parser

ROLES = {"user": "user", "assistant": "assistant", "observation": "tool", "function": "assistant"}


class OwnTemplate:
    """Spells conversations with a Jinja chat template, as Hugging Face tokenizers carry it.

    The trained span of an answer is what the rendering gains by it: the text after the generation prompt, up to
    where the next turn begins. Where a longer conversation does not begin with the shorter one's rendering, that
    boundary cannot be trusted, and the row is refused rather than guessed at.
    """

    efficient_eos = False

    def __init__(
        self, source: str, *, bos_token: str = "", eos_token: str = "", rules: RenderRules = RenderRules()
    ) -> None:
        """Compile ``source``. Raises ``UsageError`` where it is not a template."""
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        # The options and globals that transformers gives chat templates, so that they mean the same here.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _generation_tag()]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise UsageError(f"the tokenizer's chat template does not compile: {error}") from None
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._rules = rules

    def render(self, messages: Sequence[dict[str, Any]], *, add_generation_prompt: bool) -> str:
        """The conversation as text. Raises ``RowFault`` where the template refuses it."""
        from jinja2 import TemplateError

        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, tools=None, **self._tokens
            )
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise RowFault("messages", f"the tokenizer's chat template refuses this conversation: {error}") from None

    def turns(
        self, messages: Sequence[Message], system: str, tools: str = "", *, last_only: bool = False
    ) -> list[Turn]:
        """One turn for each pair of messages, as text between the joints of longer and longer renderings."""
        system = system or self._rules.default_system or ""
        spelled: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        turns: list[Turn] = []
        done = ""
        for i in range(0, len(messages), 2):
            spelled.append(_spelled(messages[i]))
            asked = self.render(spelled, add_generation_prompt=True)
            spelled.append(_spelled(messages[i + 1]))
            answered = self.render(spelled, add_generation_prompt=False)
            if not (asked.startswith(done) and answered.startswith(asked)):
                raise RowFault(
                    "messages",
                    f"turn {i}: the tokenizer's chat template rewrites earlier turns, so what is trained cannot be told",
                )
            turns.append(Turn((asked[len(done) :],), (answered[len(asked) :],), weight=messages[i + 1].weight))
            done = answered
        return turns


def _spelled(message: Message) -> dict[str, Any]:
    return {"role": ROLES[message.role], "content": message.content}


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)  # Jinja's own filter would escape for HTML


def _generation_tag() -> type[Extension]:
    """``{% generation %} … {% endgeneration %}``: transformers' mark around what the model says; it spells nothing."""
    from jinja2.ext import Extension

    class GenerationTag(Extension):
        tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return GenerationTag


def _raise_exception(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
