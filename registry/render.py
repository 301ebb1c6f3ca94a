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


@dataclass(frozen=True, slots=True)
class SlotRenderer:
    """Spells conversations with the slots of a built-in template (as LLaMA-Factory 0.9.5)."""

    template: Template
    rules: RenderRules = RenderRules()

    @property
    def efficient_eos(self) -> bool:
        return self.template.efficient_eos

    def turns(
        self, messages: Sequence[Message], system: str, tools: str = "", *, last_only: bool = False
    ) -> list[Turn]:
        """One turn for each pair of messages; the first carries prefix and system text."""
        own = self.rules.default_system
        default = self.template.default_system if own is None else own
        spelled = [tuple(self._slots(message, i, system or default)) for i, message in enumerate(messages)]
        weights = [message.weight for message in messages[1::2]]
        return [
            Turn(source, target, weight=weight)
            for source, target, weight in zip(spelled[::2], spelled[1::2], weights, strict=True)
        ]

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
    return renderer.turns(record.messages, record.system, record.tools)


def answers_of(record: PreferenceRecord, renderer: Renderer) -> tuple[Turn, Turn]:
    """The chosen and the rejected answer, each as one turn whose source is the whole conversation before it."""
    both = []
    for answer in (record.chosen, record.rejected):
        messages = (*record.prompt, answer)
        _refuse_tools(messages, record.tools)
        both.append(_joined(renderer.turns(messages, record.system, record.tools, last_only=True)))
    return both[0], both[1]


def judged_of(record: ChatRecord | FeedbackRecord, renderer: Renderer) -> tuple[Turn]:
    """The last answer as one turn whose source is the whole conversation before it (kto, prediction)."""
    _refuse_tools(record.messages, record.tools)
    return (_joined(renderer.turns(record.messages, record.system, record.tools, last_only=True)),)


def prompt_of(messages: Sequence[Message], system: str, renderer: Renderer, tools: str = "") -> tuple[Slot, ...]:
    """A conversation that ends with the user's side, spelled up to where the model is to go on."""
    return _joined(renderer.turns((*messages, Message("assistant", "")), system, tools, last_only=True)).asked


def _joined(turns: Sequence[Turn]) -> Turn:
    """A conversation as one turn: the last answer, and everything before it as its prompt."""
    *before, last = turns
    source = (*(slot for turn in before for slot in (*turn.asked, *turn.target)), *last.source)
    return Turn(source, last.target, last.thought, last.weight)


def _refuse_tools(messages: Sequence[Message], tools: str) -> None:
    if tools:
        raise RowFault("tools", "rows with tools are not encoded yet")
    for message in messages:
        if message.role == "function":
            raise RowFault("messages", "function calls are not encoded yet")
