"""Records to turns of slots by a chat template: the one walk that everything trained, counted or shown goes through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Protocol

from registry.errors import RowFault
from registry.records import USER_SIDE, ChatRecord, FeedbackRecord, Message, PreferenceRecord, Record, TextRecord
from registry.slots import filled, pieces_of
from registry.templates import Slot, Template, Token
from registry.thoughts import empty_thought, has_thought, settle_thoughts
from registry.tools import tool_format_named
from registry.tools.calls import ToolFault, ToolRules, dumps
from registry.tools.read import read_calls, read_tools


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt and its answer, each as slots to be encoded one by one; only ``target`` is trained by default.

    ``thought`` stands between the two: slots that the answer decides and that are not trained (the empty thought of a
    model that is not to think). ``weight`` counts the tokens of ``target`` in the loss.
    """

    source: tuple[Slot, ...]
    target: tuple[Slot, ...]
    thought: tuple[Slot, ...] = ()
    weight: float = 1.0

    @property
    def asked(self) -> tuple[Slot, ...]:
        """Everything before the answer."""
        return self.source + self.thought


@dataclass(frozen=True, slots=True)
class RenderRules:
    """What a run may set about the spelling of its rows, whatever the template.

    ``default_system`` and ``tool_format`` override the template's own. ``enable_thinking`` (templates that think):
    True trains an empty thought where an answer has none, None writes it untrained, False also takes thoughts out of
    the answers. ``preserve_thinking`` keeps the thoughts of earlier answers, ``discard_thoughts`` takes them out of
    trained conversations too (``mask_history``). ``tool_prompt_date`` is the day that llama3's tool prompt names, ""
    for none. ``strict`` spells as LLaMA-Factory 0.9.5 does where that is plainly wrong; ``keep_special_text`` lets
    text of the user's side that looks like a special token become one.
    """

    default_system: str | None = None
    tool_format: str | None = None
    enable_thinking: bool | None = True
    preserve_thinking: bool = False
    discard_thoughts: bool = False
    tool_prompt_date: str = ""
    keep_special_text: bool = False
    strict: bool = False


class Renderer(Protocol):
    """What spells conversations: a built-in template, or the tokenizer's own (``registry.own_template``)."""

    @property
    def efficient_eos(self) -> bool: ...

    def turns(
        self, messages: Sequence[Message], system: str, tools: str = "", *, last_only: bool = False
    ) -> list[Turn]:
        """One turn for each pair of messages. Raises ``RowFault`` for what it cannot spell.

        ``tools`` is JSON text or empty; ``last_only`` says that the conversation is there for its last answer.
        """
        ...

    def special_texts(self, messages: Sequence[Message], system: str) -> int:
        """How many special tokens stand as text in a row's system text and its user's side."""
        ...


@dataclass(frozen=True, slots=True)
class SlotRenderer:
    """Spells conversations with the slots of a built-in template (as LLaMA-Factory 0.9.5).

    ``specials`` finds the tokenizer's special tokens in a text; None where it is not known, and none is looked for.
    """

    template: Template
    rules: RenderRules = RenderRules()
    specials: re.Pattern[str] | None = field(default=None, compare=False, repr=False)

    @property
    def efficient_eos(self) -> bool:
        return self.template.efficient_eos

    def turns(
        self, messages: Sequence[Message], system: str, tools: str = "", *, last_only: bool = False
    ) -> list[Turn]:
        """One turn for each pair of messages; the first carries prefix, system text and tools."""
        template, rules = self.template, self.rules
        empty: Sequence[bool] = ()
        if template.thinking:
            messages, empty = settle_thoughts(
                messages,
                template,
                enable=rules.enable_thinking,
                preserve=rules.preserve_thinking,
                discard=rules.discard_thoughts,
                last_only=last_only,
            )
        turns: list[Turn] = []
        for number in range(len(messages) // 2):
            asked, answer = messages[2 * number], messages[2 * number + 1]
            source = self._opening(asked, system, tools) if number == 0 else self._said(asked, number)
            thought: tuple[Slot, ...] = ()
            target = self._answer(answer, 2 * number + 1)
            if empty and empty[number]:
                if rules.enable_thinking:
                    target = (empty_thought(template), *target)
                else:
                    thought = (empty_thought(template),)
            turns.append(Turn(source, target, thought, answer.weight))
        return turns

    def spells_plainly(self, question: str, answer: str) -> bool:
        """Whether a user's text and its answer are put between the slots as any others are, nothing in them being of
        consequence: no special token, no thought."""
        template, rules = self.template, self.rules
        if rules.strict:
            if "{{idx}}" in question:
                return False
        elif self._guard is not None and self._guard.search(question):
            return False
        if not template.thinking:
            return True
        return not (has_thought(answer, template.thought_words) or answer.startswith("\n"))

    def special_texts(self, messages: Sequence[Message], system: str) -> int:
        """How many special tokens stand as text in a row's system text and its user's side."""
        if self.specials is None:
            return 0
        texts = [system, *(message.content for message in messages if message.role in USER_SIDE)]
        return sum(1 for text in texts for _ in self.specials.finditer(text))

    @property
    def _guard(self) -> re.Pattern[str] | None:
        return None if self.rules.strict or self.rules.keep_special_text else self.specials

    def _opening(self, message: Message, system: str, tools: str) -> tuple[Slot, ...]:
        """Prefix, system text with the tools told in it, and the first message."""
        template, rules = self.template, self.rules
        default = template.default_system if rules.default_system is None else rules.default_system
        pieces = pieces_of(system, self._guard) if system else [default]
        told, is_told = self._tools_told(tools)
        if is_told and not (system or default) and not rules.strict:
            told = told.lstrip("\n")  # they part the tools from a system text that is not there
        pieces[-1] += told
        if not (system or default or is_told):
            return (*template.prefix, *self._said(message, 0))
        if not template.system_in_user:
            return (*template.prefix, *filled(template.system, pieces, 0), *self._said(message, 0))
        if rules.strict and message.role != "user":  # lost there
            return (*template.prefix, *self._said(message, 0))
        (slot,) = template.system
        opened = [str(piece) for piece in filled((slot,), pieces, 0)]
        return (*template.prefix, *self._said(message, 0, opened))

    def _tools_told(self, tools: str) -> tuple[str, bool]:
        """What is added to the system text for a row's tools, and whether that is to be written."""
        if not tools:
            return "", False
        rules = self.rules
        name = self.template.tool_format if rules.tool_format is None else rules.tool_format
        try:
            listed = _listed(tools)
            if name is None:  # LLaMA-Factory puts the text there as it is, whatever it is
                text = tools if rules.strict else dumps(read_tools(tools))
                told = self.template.tool_slot.replace("{{content}}", text, 1) if listed or rules.strict else ""
            else:
                told = _told(tools, name, rules.strict, rules.tool_prompt_date) if listed else ""
        except ToolFault as fault:
            raise RowFault("tools", str(fault)) from None
        return told, listed or rules.strict  # for a list without tools it writes an empty system turn

    def _said(self, message: Message, number: int, opened: Sequence[str] = ("",)) -> tuple[Slot, ...]:
        """A message of the user's side, after what stands before it inside its own slot."""
        content = message.content
        pieces = pieces_of(content, self._guard)
        slots = filled(
            getattr(self.template, message.role), [*opened[:-1], opened[-1] + pieces[0], *pieces[1:]], number
        )
        if self.rules.strict and message.role == "user" and "{{idx}}" in content and not self.template.system_in_user:
            return tuple(s.replace("{{idx}}", str(number), 1) if isinstance(s, str) else s for s in slots)
        return slots

    def _answer(self, message: Message, index: int) -> tuple[Slot, ...]:
        if message.role != "function":
            return filled(getattr(self.template, message.role), [message.content], index // 2)
        template = _with_tool_format(self.template, self.rules.tool_format)
        try:
            text = _called(message.content, template, self.rules)
        except ToolFault as fault:
            raise RowFault(f"messages[{index}]", str(fault)) from None
        return filled(template.function, [text], index // 2)


def special_texts(record: Record, renderer: Renderer) -> int:
    """How many special tokens stand as text in a record's system text and its user's side, where they are neutralised
    (or, as the rules say, kept)."""
    if isinstance(record, TextRecord):
        return 0
    messages = record.prompt if isinstance(record, PreferenceRecord) else record.messages
    return renderer.special_texts(messages, record.system)


@cache
def _with_tool_format(template: Template, name: str | None) -> Template:
    """A template whose calls are written in another syntax: LLaMA-Factory then ends them as it ends a plain answer."""
    if name is None:
        return template
    text: tuple[Slot, ...] = ("{{content}}",)
    function = text if template.efficient_eos else (*text, Token(of="eos_token"))
    return replace(template, function=function, function_format=name)


@lru_cache(maxsize=512)  # rows of one dataset mostly share their tools
def _listed(tools: str) -> bool:
    """Whether a row's JSON text lists any tool. Raises ``ToolFault``."""
    return bool(read_tools(tools))


@lru_cache(maxsize=512)
def _told(tools: str, name: str, strict: bool, date: str) -> str:
    """The prompt that tells of a row's tools in the syntax called ``name``."""
    return tool_format_named(name).prompt(read_tools(tools), ToolRules(strict, date))


def _called(content: str, template: Template, rules: RenderRules) -> str:
    """A function turn's text in the template's syntax, after the thought or text that stands before the calls."""
    # Templates with the system text in the user's turn do not look for words around calls.
    words = (None, None) if template.system_in_user else (template.thought_words, template.tool_call_words)
    before, calls = read_calls(content, *words, strict=rules.strict)
    spelled = tool_format_named(template.function_format).calls(calls, ToolRules(rules.strict, rules.tool_prompt_date))
    return before + spelled


def turns_of(record: ChatRecord | FeedbackRecord, renderer: Renderer) -> list[Turn]:
    """The turns of a conversation. Raises ``RowFault`` for what cannot be spelled."""
    return renderer.turns(record.messages, record.system, record.tools)


def answers_of(record: PreferenceRecord, renderer: Renderer) -> tuple[Turn, Turn]:
    """The chosen and the rejected answer, each as one turn whose source is the whole conversation before it."""
    both = []
    for answer in (record.chosen, record.rejected):
        messages = (*record.prompt, answer)
        both.append(_joined(renderer.turns(messages, record.system, record.tools, last_only=True)))
    return both[0], both[1]


def judged_of(record: ChatRecord | FeedbackRecord, renderer: Renderer) -> tuple[Turn]:
    """The last answer as one turn whose source is the whole conversation before it (kto, prediction)."""
    return (_joined(renderer.turns(record.messages, record.system, record.tools, last_only=True)),)


def prompt_of(messages: Sequence[Message], system: str, renderer: Renderer, tools: str = "") -> tuple[Slot, ...]:
    """A conversation that ends with the user's side, spelled up to where the model is to go on."""
    return _joined(renderer.turns((*messages, Message("assistant", "")), system, tools, last_only=True)).asked


def _joined(turns: Sequence[Turn]) -> Turn:
    """A conversation as one turn: the last answer, and everything before it as its prompt."""
    *before, last = turns
    source = (*(slot for turn in before for slot in (*turn.asked, *turn.target)), *last.source)
    return Turn(source, last.target, last.thought, last.weight)
