"""Tokens by who speaks: what is context and what is trained of the system, the user, the model and its tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.encode import TurnLengths, count_texts, token_ids
from registry.errors import RowFault
from registry.records import ChatRecord, FeedbackRecord, Message, PreferenceRecord, Record
from registry.render import Renderer, Turn, turns_of
from registry.templates import Token
from registry.tokenizer import TextEncoder

PlainRow = tuple[tuple[Turn], str]  # the one turn of a row, a question and its answer, and the row's system text
MOST_OPENINGS = 10_000  # distinct system texts whose length is remembered
_ASKED, _ANSWERED = Message("user", "?"), Message("assistant", "!")


@dataclass
class Roles:
    """Counts the uncut tokens of conversations by role, each place once: they add up to the tokens of all rows.

    ``system`` is all that stands before the first turn: the template's opening and the system text with its markers.
    Where a template writes the system text into the user's first turn, it counts as the user's.
    """

    tokenizer: TextEncoder
    renderer: Renderer
    num_end: int
    tokens: dict[str, int] = field(default_factory=dict)
    trained: dict[str, int] = field(default_factory=dict)
    _openings: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, rows: Sequence[Record | PlainRow], found: TurnLengths) -> None:
        """The turns of a batch; ``found`` holds lengths for these very rows, and no faults."""
        if not rows:
            return
        if isinstance(rows[0], PreferenceRecord):
            self._count("prompt", 2 * sum(found.sources[::2]), 0)  # it is read with each of the answers
            for start, side in enumerate(("chosen", "rejected")):
                self._count(side, sum(found.targets[start::2]) + self.num_end * len(rows))
        elif isinstance(rows[0], FeedbackRecord):
            self._count("prompt", sum(found.sources), 0)
            self._count("answer", sum(found.targets) + self.num_end * len(rows))
        else:
            self._add_chats(rows, found)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Role → ``tokens`` and how many of them are ``trained``."""
        return {role: {"tokens": self.tokens[role], "trained": self.trained[role]} for role in self.tokens}

    def _count(self, role: str, tokens: int, trained: int | None = None) -> None:
        self.tokens[role] = self.tokens.get(role, 0) + tokens
        self.trained[role] = self.trained.get(role, 0) + (tokens if trained is None else trained)

    def _add_chats(self, rows: Sequence[Record | PlainRow], found: TurnLengths) -> None:
        keys = [(row[1], "") if isinstance(row, tuple) else (row.system, row.tools) for row in rows]  # type: ignore[union-attr]
        lengths = self._opening_lengths(keys)
        openings = sum(lengths[key] * times for key, times in Counter(keys).items())
        # Most turns are a user's question and the model's answer: all are counted as such, then tools' are set right.
        asked, answered, ends, turn = sum(found.sources) - openings, sum(found.targets), 0, 0
        for row, num_turns in zip(rows, found.num_turns, strict=True):
            roles = () if isinstance(row, tuple) else [message.role for message in row.messages]  # type: ignore[union-attr]
            if "observation" in roles or "function" in roles:
                for number in range(num_turns):
                    if roles[2 * number] == "observation":
                        asked -= found.sources[turn + number]
                        self._count("tool", found.sources[turn + number], 0)
                    if roles[2 * number + 1] == "function":
                        answered -= found.targets[turn + number]
                        self._count("tool call", found.targets[turn + number])
            turn += num_turns
            if self.num_end:  # a later turn's first place is trained, to end the answer before it
                ends += sum(map(bool, found.sources[turn - num_turns + 1 : turn]))
        self._count("system", openings, 0)
        self._count("user", asked, ends)
        self._count("assistant", answered + self.num_end * len(rows))

    def _opening_lengths(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        new = [key for key in dict.fromkeys(keys) if key not in self._openings]
        if new:
            if len(self._openings) + len(new) > MOST_OPENINGS:
                self._openings.clear()
                new = list(dict.fromkeys(keys))
            spelled = [opening_of(*key, self.renderer) for key in new]
            lengths = count_texts([s for slots in spelled for s in slots if isinstance(s, str)], self.tokenizer)
            for key, slots in zip(new, spelled, strict=True):
                self._openings[key] = sum(
                    len(token_ids(slot, self.tokenizer)) if isinstance(slot, Token) else lengths.get(slot, 0)
                    for slot in slots
                )
        return self._openings


def opening_of(system: str, tools: str, renderer: Renderer) -> Sequence[str | Token]:
    """What a conversation opens with before the user's own first turn; nothing where the two cannot be told apart.

    A question that comes first is spelled with the opening, the same question later on without it.
    """
    try:
        first = turns_of(ChatRecord((_ASKED, _ANSWERED), system, tools), renderer)[0].source
        later = turns_of(ChatRecord((_ASKED, _ANSWERED, _ASKED, _ANSWERED), system, tools), renderer)[1].source
    except RowFault:
        return ()
    if len(first) == len(later) == 1 and isinstance(first[0], str) and isinstance(later[0], str):
        return (first[0].removesuffix(later[0]),) if first[0].endswith(later[0]) else ()
    return first[: -len(later)] if first[-len(later) :] == later else ()
