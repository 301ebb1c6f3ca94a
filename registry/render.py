"""Records to turns of slots by a chat template: the one walk that everything trained, counted or shown goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from registry.errors import RowFault
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord
from registry.templates import Slot, Template


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt and its answer, each as slots to be encoded one by one; only ``target`` is trained by default."""

    source: tuple[Slot, ...]
    target: tuple[Slot, ...]


class Renderer(Protocol):
    """What spells conversations: a built-in template, or the tokenizer's own (``registry.own_template``)."""

    @property
    def efficient_eos(self) -> bool: ...

    def turns(self, messages: Sequence[Message], system: str) -> list[Turn]:
        """One turn for each pair of messages. Raises ``RowFault`` for what it cannot spell."""
        ...


@dataclass(frozen=True, slots=True)
class SlotRenderer:
    """Spells conversations with the slots of a built-in template (as LLaMA-Factory 0.9.5)."""

    template: Template
    default_system: str | None = None  # overrides the template's own

    @property
    def efficient_eos(self) -> bool:
        return self.template.efficient_eos

    def turns(self, messages: Sequence[Message], system: str) -> list[Turn]:
        """One turn for each pair of messages; the first carries prefix and system text."""
        default = self.template.default_system if self.default_system is None else self.default_system
        spelled = [tuple(self._slots(message, i, system or default)) for i, message in enumerate(messages)]
        return list(map(Turn, spelled[::2], spelled[1::2]))

    def _slots(self, message: Message, index: int, system: str) -> list[Slot]:
        template = self.template
        slots: list[Slot] = []
        content = message.content
        if index == 0:
            slots += template.prefix
            if system and template.system_in_user:
                content = "".join(_fill(s, system, 0) for s in template.system if isinstance(s, str)) + content
            elif system:
                slots += [s if not isinstance(s, str) else _fill(s, system, 0) for s in template.system]
        for slot in getattr(template, message.role):
            slots.append(_fill(slot, content, index // 2) if isinstance(slot, str) else slot)
        return slots


def _fill(slot: str, content: str, turn: int) -> str:
    # The index is only looked for outside the content: a "{{idx}}" inside the user's own text is text.
    before, has_content, after, numbered = _pieces(slot)
    if numbered:
        before, after = (part.replace("{{idx}}", str(turn)) for part in (before, after))
    return f"{before}{content}{after}" if has_content else before


@cache
def _pieces(slot: str) -> tuple[str, bool, str, bool]:
    before, mark, after = slot.partition("{{content}}")
    return before, bool(mark), after, "{{idx}}" in slot


def turns_of(record: ChatRecord | FeedbackRecord, renderer: Renderer) -> list[Turn]:
    """The turns of a conversation. Raises ``RowFault`` where it uses tools, which are not encoded yet."""
    _refuse_tools(record.messages, record.tools)
    return renderer.turns(record.messages, record.system)


def answers_of(record: PreferenceRecord, renderer: Renderer) -> tuple[Turn, Turn]:
    """The chosen and the rejected answer, each as one turn whose source is the whole conversation before it."""
    both = []
    for answer in (record.chosen, record.rejected):
        messages = (*record.prompt, answer)
        _refuse_tools(messages, record.tools)
        turns = renderer.turns(messages, record.system)
        before = [slot for turn in turns[:-1] for slot in (*turn.source, *turn.target)]
        both.append(Turn((*before, *turns[-1].source), turns[-1].target))
    return both[0], both[1]


def judged_of(record: FeedbackRecord, renderer: Renderer) -> tuple[Turn]:
    """The judged answer as one turn whose source is the whole conversation before it (kto)."""
    *before, last = turns_of(record, renderer)
    return (Turn((*(slot for turn in before for slot in (*turn.source, *turn.target)), *last.source), last.target),)


def prompt_of(messages: Sequence[Message], system: str, renderer: Renderer) -> tuple[Slot, ...]:
    """A conversation that ends with the user's side, spelled up to where the model is to go on."""
    turns = renderer.turns((*messages, Message("assistant", "")), system)
    return (*(slot for turn in turns[:-1] for slot in (*turn.source, *turn.target)), *turns[-1].source)


def _refuse_tools(messages: Sequence[Message], tools: str) -> None:
    if tools:
        raise RowFault("tools", "rows with tools are not encoded yet")
    for message in messages:
        if message.role == "function":
            raise RowFault("messages", "function calls are not encoded yet")
