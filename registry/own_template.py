"""The tokenizer's own chat template (``template: null``): rendered whole, and cut into turns where that can be trusted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from registry.errors import RowFault
from registry.own_messages import Conversation, is_told, read_conversation
from registry.own_sandbox import BEGIN, END, compile_template
from registry.own_spans import Span, compared_spans, last_span, marked_spans
from registry.records import USER_SIDE, Message
from registry.render import RenderRules, Turn
from registry.slots import pieces_of

_PRIVATE = range(0x10F800, 0x10FFFE)  # characters for private use, which no text and no tokenizer holds


class OwnTemplate:
    """Spells conversations with a Jinja chat template, as Hugging Face tokenizers carry it.

    What is trained is what the template marks with ``{% generation %}``. Where it has no such marks, it is what the
    rendering gains by an answer, from the prompt that asks for it up to where the next turn begins. Where neither can
    be trusted, the row is refused rather than guessed at. The slots of all turns, joined, are the one rendering of the
    whole conversation; only what it writes behind the last mark is left out, since nothing is trained there.
    """

    efficient_eos = False

    def __init__(
        self,
        source: str,
        *,
        bos_token: str = "",
        eos_token: str = "",
        rules: RenderRules = RenderRules(),
        specials: re.Pattern[str] | None = None,
    ) -> None:
        """Compile ``source``. ``specials`` finds the tokenizer's special tokens in a text: where the user's side
        writes one, it stays text. Raises ``UsageError`` where ``source`` is not a template."""
        self._compiled = compile_template(source)
        self._rules = rules
        self._variables: dict[str, Any] = {"bos_token": bos_token, "eos_token": eos_token}
        if rules.enable_thinking is not None:
            self._variables["enable_thinking"] = rules.enable_thinking
        if rules.preserve_thinking:
            self._variables["preserve_thinking"] = True
        self._specials = specials
        self._guard = None if rules.strict or rules.keep_special_text else specials

    @property
    def marked(self) -> bool:
        """Whether the template itself marks what the model says."""
        return self._compiled.marked

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        add_generation_prompt: bool,
        tools: list[dict[str, Any]] | None = None,
        marks: tuple[str, str] = ("", ""),
    ) -> str:
        """The conversation as text, with ``marks`` around what the template marks as the model's.

        Raises ``RowFault`` where the template refuses it.
        """
        from jinja2 import TemplateError

        variables = self._variables | {BEGIN: marks[0], END: marks[1]}
        try:
            return self._compiled.template.render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, tools=tools, **variables
            )
        except (
            TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError,
        ) as error:  # fmt: skip
            raise RowFault("messages", f"the tokenizer's chat template refuses this conversation: {error}") from None

    def turns(
        self, messages: Sequence[Message], system: str, tools: str = "", *, last_only: bool = False
    ) -> list[Turn]:
        """One turn for each pair of messages, as text; with ``last_only`` one alone, the last answer's.

        Raises ``RowFault`` where the template refuses the conversation, leaves some of it out, or does not let one
        tell which part of the text the model is to say.
        """
        system = system or self._rules.default_system or ""
        mark, begin, end = _unused((system, tools, *(message.content for message in messages)))
        if self._guard:
            messages, system = self._as_text(messages, system, mark)
        talk = read_conversation(messages, system, tools)
        whole, spans = self._spans(talk, last_only, (begin, end))
        turns = _cut(whole, spans, [exchange.weight for exchange in talk.exchanges][-len(spans) :], mark)
        _check_told(talk, whole, spans)
        return turns

    def _spans(self, talk: Conversation, last_only: bool, marks: tuple[str, str]) -> tuple[str, list[Span]]:
        """The whole rendering, and where each answer (or the last alone) stands in it."""

        def render(part: Conversation, number: int, answered: bool) -> str:
            messages = part.until(number, answered=answered)
            return self.render(messages, add_generation_prompt=not answered, tools=part.tools)

        last = len(talk.exchanges) - 1
        if last_only and talk.exchanges[-1].answer["content"] == "" and "tool_calls" not in talk.exchanges[-1].answer:
            # The prompt alone is asked for, or an empty answer stands where there is nothing to train on.
            asked = render(talk, last, False)
            try:
                whole = render(talk, last, True)
            except RowFault:
                whole = asked
            whole = whole if whole.startswith(asked) else asked
            return whole, [(len(asked), len(whole))]
        if not self.marked:
            if last_only:
                whole = render(talk, last, True)
                return whole, [last_span(whole, render(talk, last, False))]
            return compared_spans(render, talk, marks[0])
        messages = talk.until(last, answered=True)
        text = self.render(messages, add_generation_prompt=False, tools=talk.tools, marks=marks)
        whole, spans = marked_spans(text, *marks)
        if self._compiled.captured and whole != render(talk, last, True):
            raise RowFault("messages", "the tokenizer's chat template rewrites what its {% generation %} marks hold")
        if last_only:
            spans = spans[-1:]
        if len(spans) != (1 if last_only else last + 1):
            raise RowFault(
                "messages",
                f"the tokenizer's chat template marks {len(spans)} parts as the model's, and there are {last + 1} answers",
            )
        return whole, spans

    def _as_text(self, messages: Sequence[Message], system: str, mark: str) -> tuple[Sequence[Message], str]:
        """The user's side with a mark inside each text that the tokenizer would read as a special token."""
        guard = self._guard
        if guard is None or not any(guard.search(text) for text in (system, *(m.content for m in messages[::2]))):
            return messages, system

        def broken(text: str) -> str:
            return mark.join(pieces_of(text, guard))

        spelled = [
            replace(message, content=broken(message.content)) if number % 2 == 0 else message
            for number, message in enumerate(messages)
        ]
        return spelled, broken(system)

    def special_texts(self, messages: Sequence[Message], system: str) -> int:
        """How many special tokens stand as text in a row's system text and its user's side."""
        if self._specials is None:
            return 0
        texts = [system, *(message.content for message in messages if message.role in USER_SIDE)]
        return sum(1 for text in texts for _ in self._specials.finditer(text))


def _unused(texts: Sequence[str]) -> tuple[str, str, str]:
    """Three characters that none of the texts holds."""
    found = (chr(number) for number in _PRIVATE if not any(chr(number) in text for text in texts))
    return next(found), next(found), next(found)


def _cut(whole: str, spans: Sequence[Span], weights: Sequence[float], mark: str) -> list[Turn]:
    turns: list[Turn] = []
    done = 0
    for (start, end), weight in zip(spans, weights, strict=True):
        # A mark is a joint: on both sides of it the text is encoded for itself, so no special token comes of it.
        source, target = (tuple(filter(None, text.split(mark))) for text in (whole[done:start], whole[start:end]))
        turns.append(Turn(source, target, weight=weight))
        done = end
    return turns


def _check_told(talk: Conversation, whole: str, spans: Sequence[Span]) -> None:
    """Raise ``RowFault`` where a text of the conversation is not in the part of the rendering where it belongs."""

    def forgets(place: str, what: str) -> RowFault:
        return RowFault(place, f"the tokenizer's chat template leaves {what} out")

    first = spans[0][0]
    for message in talk.opening:
        if not is_told(message["content"], whole[:first]):
            raise forgets("system", "the system message")
    for tool in talk.tools or ():
        if not is_told(str(tool["function"].get("name", "")), whole):
            raise forgets("tools", "the tools")
    done = 0
    answers = talk.exchanges[-len(spans) :]
    before = talk.exchanges[: len(talk.exchanges) - len(spans)]
    asked = [*(message for exchange in before for message in exchange.asked)]
    for number, (exchange, (start, end)) in enumerate(zip(answers, spans, strict=True), start=len(before)):
        for message in (*asked, *exchange.asked):
            if not is_told(message["content"], whole[done:start]):
                raise forgets("messages", f'turn {2 * number} ("{message["role"]}")')
        names = [call["function"]["name"] for call in exchange.answer.get("tool_calls", ())]
        if not all(is_told(text, whole[start:end]) for text in names or [exchange.answer["content"]]):
            raise forgets("messages", f"turn {2 * number + 1} (the answer)")
        asked, done = [], end
