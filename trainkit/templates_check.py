"""A built-in template against the chat template that a model's tokenizer brings: where the two spell differently."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from registry.errors import RowFault, UsageError
from registry.own_messages import read_conversation
from registry.own_template import OwnTemplate
from registry.records import Message
from registry.render import RenderRules, SlotRenderer
from registry.templates import ROLES, Slot, Template, Token, load_template, template_names
from registry.tokenizer import Tokenizer
from trainkit.templates_command import CALL, SYSTEM, TOOLS, visible

_BEFORE, _AFTER = 24, 40  # characters shown around a difference
# What looks like a special token among a template's literals: <|im_start|>, <start_of_turn>, [INST], <｜User｜>.
_TOKEN_LIKE = re.compile(r"<[^<>\s{}]{2,40}>|\[/?[A-Z_]{3,}\]")


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation to compare on."""

    name: str
    messages: Sequence[Message]
    system: str = ""
    tools: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """One conversation in both spellings. ``at`` is the first character that differs (None: none does), with the text
    around it on both sides; ``refused`` says who does not spell the conversation at all, and why."""

    name: str
    at: int | None = None
    template: str = ""
    tokenizer: str = ""
    refused: str = ""
    alike: float = 1.0

    @property
    def same(self) -> bool:
        return self.at is None and not self.refused


@dataclass(frozen=True, slots=True)
class Check:
    """What was found for one template. ``missing`` are tokens of the template that the vocabulary lacks, ``split``
    words that look like tokens and are none there."""

    name: str
    talks: list[Compared]
    missing: list[str] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    template_end: str = ""
    tokenizer_end: str = ""
    stops: bool = True

    @property
    def same(self) -> bool:
        """Whether all that both spell is equal, and the model is taught to stop at the tokenizer's own end."""
        differs = any(talk.at is not None for talk in self.talks)
        return (
            self.compared and not (differs or self.missing) and self.template_end == self.tokenizer_end and self.stops
        )

    @property
    def compared(self) -> bool:
        """Whether any conversation could be spelled by both."""
        return any(not talk.refused for talk in self.talks)

    @property
    def rank(self) -> tuple[int, float]:
        """Nearer templates are greater: conversations that are equal, then how much of the others is."""
        return sum(talk.same for talk in self.talks), sum(talk.alike for talk in self.talks)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"same": self.same, "talks": [asdict(t) | {"same": t.same} for t in self.talks]}


def talks_of(template: Template) -> list[Talk]:
    """The conversations that are compared; thoughts only for templates that know them."""
    first, second = template.thought_words
    question, answer = Message("user", "Can the boat go out?"), Message("assistant", "No, it blows.")
    later = (Message("user", "And tomorrow?"), Message("assistant", "Ask me at six."))
    weighed = Message("assistant", f"{first}Forty knots.{second}No, it blows.")
    called = (question, Message("function", CALL), Message("observation", '{"knots": 40}'), answer)
    found = [
        Talk("plain", (question, answer)),
        Talk("system text", (question, answer), SYSTEM),
        Talk("several turns", (question, answer, *later)),
        Talk("tools", called, SYSTEM, TOOLS),
    ]
    if template.thinking:
        found += [
            Talk("thought", (question, weighed)),
            Talk("earlier thought", (question, weighed, *later)),
        ]
    return found


def check_template(name: str, tokenizer: Tokenizer, thinking: bool | None) -> Check:
    """Compare the template called ``name`` with the tokenizer's own."""
    template = load_template(name)
    rules = RenderRules(enable_thinking=thinking)
    end = template.stop_words[0] if template.replace_eos else tokenizer.eos_token
    own = own_template(tokenizer, rules)
    renderer = SlotRenderer(template, rules)
    names = {"bos_token": tokenizer.bos_token, "eos_token": end}
    talks = [_compared(talk, renderer, own, names) for talk in talks_of(template)]
    named = {slot.text for role in ROLES for slot in getattr(template, role) if isinstance(slot, Token) and slot.text}
    literals = {
        word
        for role in ROLES
        for slot in getattr(template, role)
        if isinstance(slot, str)
        for word in _TOKEN_LIKE.findall(slot)
    }
    needed = named | set(template.stop_words)
    missing = sorted(word for word in needed if tokenizer.token_id(word) is None)
    split = sorted(word for word in literals - needed if tokenizer.token_id(word) is None)
    return Check(name, talks, missing, split, end, tokenizer.eos_token, _stops(template, end))


def _stops(template: Template, end: str) -> bool:
    """Whether an answer ends with something that generation stops at."""
    said = _spelled(template.assistant, {"eos_token": end, "bos_token": ""})
    return template.efficient_eos or any(word and word in said for word in (end, *template.stop_words))


def own_template(tokenizer: Tokenizer, rules: RenderRules) -> OwnTemplate:
    """The tokenizer's own chat template. Raises ``UsageError`` where it has none."""
    if not tokenizer.chat_template:
        raise UsageError(
            "the tokenizer has no chat template of its own to compare with",
            where=str(tokenizer.folder),
            mend="A base model has none; any template can be trained into it.",
        )
    return OwnTemplate(
        tokenizer.chat_template, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token, rules=rules
    )


def _compared(talk: Talk, renderer: SlotRenderer, own: OwnTemplate, names: dict[str, str]) -> Compared:
    """The prompt of the last answer and the whole conversation, in both spellings."""
    refused = []
    ours: tuple[str, str] | None = None
    theirs: tuple[str, str] | None = None
    try:
        ours = _of_slots(talk, renderer, names)
    except RowFault as fault:
        refused.append(f"the template: {fault.reason}")
    try:
        theirs = _of_tokenizer(talk, own)
    except RowFault as fault:
        refused.append(fault.reason)
    if ours is None or theirs is None:
        return Compared(talk.name, refused="; ".join(refused), alike=0.0)
    # The one end that is added behind the last answer is no part of its spelling, and theirs may have it or not.
    end = names["eos_token"] if renderer.efficient_eos else ""
    for mine, other in zip(ours, theirs, strict=True):
        if other not in (mine, mine + end):
            at = next((i for i, pair in enumerate(zip(mine, other, strict=False)) if pair[0] != pair[1]), None)
            at = min(len(mine), len(other)) if at is None else at
            around = slice(max(0, at - _BEFORE), at + _AFTER)
            return Compared(talk.name, at, mine[around], other[around], alike=at / max(len(mine), len(other)))
    return Compared(talk.name)


def _of_slots(talk: Talk, renderer: SlotRenderer, names: dict[str, str]) -> tuple[str, str]:
    asked = renderer.turns((*talk.messages[:-1], Message("assistant", "")), talk.system, talk.tools, last_only=True)
    whole = renderer.turns(talk.messages, talk.system, talk.tools, last_only=True)
    before = "".join(_spelled((*turn.asked, *turn.target), names) for turn in asked[:-1])
    text = "".join(_spelled((*turn.asked, *turn.target), names) for turn in whole)
    return before + _spelled(asked[-1].asked, names), text


def _of_tokenizer(talk: Talk, own: OwnTemplate) -> tuple[str, str]:
    read = read_conversation(talk.messages, talk.system, talk.tools)
    last = len(read.exchanges) - 1
    asked = own.render(read.until(last, answered=False), add_generation_prompt=True, tools=read.tools)
    if not all(tool["function"]["name"] in asked for tool in read.tools or ()):
        raise RowFault("tools", "the tokenizer's chat template leaves the tools out")
    return asked, own.render(read.until(last, answered=True), add_generation_prompt=False, tools=read.tools)


def _spelled(slots: Sequence[Slot], names: dict[str, str]) -> str:
    return "".join(s if isinstance(s, str) else names[s.of] if s.of else s.text or "" for s in slots)


def check_all(folder: Path, thinking: bool | None) -> list[Check]:
    """All templates against the tokenizer in ``folder``, the nearest first."""
    tokenizer = Tokenizer(folder)
    own_template(tokenizer, RenderRules())
    checks = [check_template(name, tokenizer, thinking) for name in template_names()]
    return sorted(checks, key=lambda check: (not check.same, [-part for part in check.rank], check.name))


def check_as_text(check: Check, folder: str) -> str:
    """One check for the console."""
    lines = [f"template {check.name} against {folder}"]
    for talk in check.talks:
        if talk.refused:
            lines.append(f"  {talk.name:<16} not compared: {talk.refused}")
        elif talk.at is None:
            lines.append(f"  {talk.name:<16} same")
        else:
            lines.append(f"  {talk.name:<16} differs at character {talk.at}")
            lines.append(f"    template       …{visible(talk.template)}…")
            lines.append(f"    tokenizer      …{visible(talk.tokenizer)}…")
    if check.missing:
        lines.append(f"  not in the vocabulary, the template needs it: {', '.join(map(visible, check.missing))}")
    if check.split:
        lines.append(f"  written as plain text, no token of its own: {', '.join(map(visible, check.split))}")
    if check.template_end == check.tokenizer_end:
        lines.append(f"  end of sequence  {visible(check.template_end) or 'none'} in both")
    else:
        both = f"{visible(check.template_end)}, the tokenizer's is {visible(check.tokenizer_end) or 'none'}"
        lines.append(f"  end of sequence  {both}: a server that goes by the tokenizer does not stop")
    if not check.stops:
        lines.append("  answers do not end with anything that generation stops at: the model would never stop")
    lines.append("the same" if check.same else "they differ" if check.compared else "nothing could be compared")
    return "\n".join(lines)


def ranking_as_text(checks: Sequence[Check], folder: str, most: int = 8) -> str:
    """The nearest templates, one a line."""
    lines = [f"{folder}: the nearest templates"]
    for check in checks[:most]:
        equal = ", ".join(talk.name for talk in check.talks if talk.same) or "nothing"
        first = next(
            (f"; {talk.name} differs at character {talk.at}" for talk in check.talks if talk.at is not None), ""
        )
        lines.append(f"  {check.name:<24} {'same' if check.same else f'equal: {equal}{first}'}")
    return "\n".join(lines)
