"""The short way for alpaca rows of one question and one answer: texts are set between the template's slots by column."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from registry.datasets import Layout
from registry.records import ChatRecord, Message
from registry.render import Renderer, SlotRenderer, Turn, turns_of
from registry.templates import Slot
from registry.uncut import Uncut, gather

if TYPE_CHECKING:
    from registry.tokenizer import TextEncoder

T = TypeVar("T")

log = logging.getLogger("tunekit")

# What stands in for a text while a template is spelled once; no template has it.
QUESTION, ANSWER = "\ue000question\ue001", "\ue000answer\ue001"
MOST_SYSTEMS = 1000  # distinct system texts whose spelling is kept


@dataclass(frozen=True, slots=True)
class Side:
    """The slots of one side of a turn around a text: those before, what the text's own begins and ends with, those after."""

    before: tuple[Slot, ...]
    start: str
    end: str
    after: tuple[Slot, ...]

    @classmethod
    def around(cls, text: str, slots: Sequence[Slot]) -> Side | None:
        """The side that ``slots`` with one ``text`` in them are; None where it is not there just once."""
        found = [i for i, slot in enumerate(slots) if isinstance(slot, str) and text in slot]
        if len(found) != 1 or (pieces := str(slots[found[0]]).split(text))[2:]:
            return None
        return cls(tuple(slots[: found[0]]), pieces[0], pieces[1], tuple(slots[found[0] + 1 :]))

    def slots(self, text: str) -> tuple[Slot, ...]:
        """The side around another text."""
        return (*self.before, f"{self.start}{text}{self.end}", *self.after)


@dataclass(frozen=True, slots=True)
class Frame:
    """What a template puts around a question and its answer under one system text."""

    asked: Side
    answered: Side
    thought: tuple[Slot, ...]

    def turn(self, question: str, answer: str) -> Turn:
        """The turn of a question and its answer."""
        return Turn(self.asked.slots(question), self.answered.slots(answer), self.thought)


def frame_of(renderer: SlotRenderer, system: str) -> Frame | None:
    """The frame that a template has for a system text; None where it does not put texts between its slots plainly."""
    (turn,) = renderer.turns((Message("user", QUESTION), Message("assistant", ANSWER)), system)
    asked, answered = Side.around(QUESTION, turn.source), Side.around(ANSWER, turn.target)
    return Frame(asked, answered, turn.thought) if asked and answered else None


@dataclass
class Plain:
    """Encodes rows of the alpaca shape whose texts are of no consequence to the template; leaves all others alone."""

    renderer: SlotRenderer
    layout: Layout
    on: bool = True
    _frames: dict[str, Frame | None] = field(default_factory=dict)

    def frame(self, system: str) -> Frame | None:
        """The frame of a system text; None where the template does not put texts between its slots plainly."""
        if system not in self._frames:
            if len(self._frames) >= MOST_SYSTEMS:
                self._frames.clear()
            self._frames[system] = frame_of(self.renderer, system)
        return self._frames[system]

    def texts(self, rows: Sequence[Any]) -> tuple[list[int], list[str], list[str], list[str]]:
        """(numbers, system texts, questions, answers) of the rows that are plain.

        A row is where its texts are text (or not there), it has no history and no tools, and nothing in the texts is
        special to the template. ``rows`` may hold what is no mapping.
        """
        columns = self.layout.columns
        prompt, query, response = columns.prompt or "", columns.query or "", columns.response or ""
        none: tuple[Any, ...] = ([], "")  # what stands there where there is nothing, besides null
        others = [pair for pair in zip((columns.history, columns.tools), none, strict=True) if pair[0]]
        plainly, system_column = self.renderer.spells_plainly, columns.system
        numbers: list[int] = []
        systems: list[str] = []
        questions: list[str] = []
        answers: list[str] = []
        for number, row in enumerate(rows):
            if row.__class__ is not dict or any(row.get(name, none) not in (None, none) for name, none in others):
                continue
            get = row.get
            first, second, answer = get(prompt), get(query) if query else None, get(response)
            system = get(system_column) if system_column else None
            if answer.__class__ is not str or not (_is_text(first) and _is_text(second) and _is_text(system)):
                continue
            question = f"{first}\n{second}" if first and second else first or second or ""
            if plainly(question, answer):
                numbers.append(number)
                systems.append(system or "")
                questions.append(question)
                answers.append(answer)
        return numbers, systems, questions, answers

    def encode(self, rows: Sequence[Any], tokenizer: TextEncoder) -> tuple[list[int], Uncut, str] | None:
        """(numbers, ids, system text) of the plain rows that have the system text of most of them; None where there are
        hardly any."""
        import numpy as np

        numbers, systems, questions, answers = self.texts(rows)
        if len(numbers) < len(rows) // 8 + 1:
            return None
        system = max(set(systems), key=systems.count) if len(set(systems)) < 50 else systems[0]
        if any(one != system for one in systems):
            kept = [i for i, one in enumerate(systems) if one == system]
            if len(kept) < len(rows) // 8 + 1:
                return None
            numbers, questions, answers = _taken(numbers, kept), _taken(questions, kept), _taken(answers, kept)
        frame = self.frame(system)
        if frame is None:
            return None
        asked, answered = frame.asked, frame.answered
        around = [asked.before, asked.after + frame.thought, answered.before, answered.after]
        constants = [slot for slots in around for slot in slots]
        places = np.arange(len(constants))
        bounds = np.cumsum([len(slots) for slots in around])[:-1]
        before, after, opening, ending = np.split(places, bounds)
        many = len(numbers)
        texts = len(constants) + np.arange(2 * many).reshape(2, many)
        used = np.empty((many, len(constants) + 2), np.int64)
        row = np.concatenate([before, [-1], after, opening, [-2], ending])
        used[:] = row
        used[:, row == -1] = texts[0][:, None]
        used[:, row == -2] = texts[1][:, None]
        slots = [
            *constants,
            *(f"{asked.start}{text}{asked.end}" for text in questions),
            *(f"{answered.start}{text}{answered.end}" for text in answers),
        ]
        sides = [len(before) + 1 + len(after), len(opening) + 1 + len(ending)]
        return numbers, gather(slots, used.ravel(), np.tile(sides, many), np.full(many, 2), {}, tokenizer), system

    def special_texts(self, row: Mapping[str, Any]) -> int:
        """How many special tokens stand as text in a plain row's question: none, unless they are let be ones."""
        rules, specials = self.renderer.rules, self.renderer.specials
        if specials is None or not (rules.strict or rules.keep_special_text):
            return 0
        columns = self.layout.columns
        texts = (row.get(name) or "" for name in (columns.prompt, columns.query) if name)
        return sum(1 for text in texts for _ in specials.finditer(text))

    def confirm(self, row: Mapping[str, Any], record: Any) -> bool:
        """Whether the long way gives a row's turn as the short one does; where not, the short one is off from here on."""
        _, systems, questions, answers = self.texts([row])
        frame = self.frame(systems[0]) if systems else None
        if frame and isinstance(record, ChatRecord):
            short = [frame.turn(questions[0], answers[0])]
            if (short, systems[0]) == (turns_of(record, self.renderer), record.system):
                return True
        self.on = False
        log.warning("the short way to the turns of alpaca rows differs from the long one, and is no longer taken")
        return False


def plain_way(layout: Layout, renderer: Renderer) -> Plain | None:
    """The short way for rows of ``layout``; None where there is none."""
    if layout.formatting != "alpaca" or layout.kind != "chat" or type(renderer) is not SlotRenderer:
        return None
    parts = ("prompt", "query", "response", "system", "history", "tools")
    named = [column for part in parts if (column := getattr(layout.columns, part))]
    if len(set(named)) < len(named) or not layout.columns.prompt or not layout.columns.response:
        return None
    return Plain(renderer, layout)


def merged(first: tuple[Sequence[int], Uncut], second: tuple[Sequence[int], Uncut]) -> Uncut:
    """Two sets of rows as one, each with the numbers that its rows are to have."""
    import numpy as np

    sets = [uncut for _, uncut in (first, second)]
    order = np.argsort(np.concatenate([np.asarray(numbers, np.int64) for numbers, _ in (first, second)]))

    def together(values: str, ends: str) -> tuple[Any, Any]:
        lengths = np.concatenate([np.diff(getattr(one, ends)) for one in sets])
        shift = np.cumsum([0, *(len(getattr(one, values)) for one in sets)])
        starts = np.concatenate([getattr(one, ends)[:-1] + by for one, by in zip(sets, shift, strict=False)])
        new_ends = np.concatenate([[0], np.cumsum(lengths[order])])
        places = np.repeat(starts[order] - new_ends[:-1], lengths[order]) + np.arange(new_ends[-1])
        return np.concatenate([getattr(one, values) for one in sets])[places], new_ends

    ids, row_ends = together("ids", "row_ends")
    parts, part_ends = together("parts", "part_ends")
    faults = {numbers[at]: fault for numbers, uncut in (first, second) for at, fault in uncut.faults.items()}
    return Uncut(ids, row_ends, parts, part_ends, faults)


def _taken(values: Sequence[T], kept: Sequence[int]) -> list[T]:
    return [values[number] for number in kept]


def _is_text(value: Any) -> bool:
    return value is None or value.__class__ is str
