"""The chat templates as people look at them: all in a table, or one with a conversation that shows what is trained."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from registry.command import print_json
from registry.errors import UsageError
from registry.records import Message
from registry.render import RenderRules, SlotRenderer, Turn
from registry.templates import Slot, Template, alias_of, load_template, template_names

SYSTEM = "Answer as a keeper of lighthouses would."
TOOLS = json.dumps(
    [
        {
            "name": "read_gauge",
            "description": "Reads a gauge of the lighthouse.",
            "parameters": {
                "type": "object",
                "properties": {"gauge": {"type": "string", "description": "wind, tide or lamp"}},
                "required": ["gauge"],
            },
        }
    ]
)
CALL = '{"name": "read_gauge", "arguments": {"gauge": "wind"}}'
SWITCHES: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_MOST_SYSTEM = 40  # characters of a default system text in the table


def facts_of(name: str) -> dict[str, Any]:
    """What the table and ``--json`` say of one template."""
    template = load_template(name)
    families: dict[str, list[str]] = json.loads((files("registry") / "model_families.json").read_text("utf-8"))
    return {
        "name": name,
        "aliases": _aliases()[name],
        "system": "in the first user turn" if template.system_in_user else "turn of its own",
        "tool_format": template.tool_format,
        "thinking": bool(template.thinking),
        "end": _end(template),
        "stop_words": list(template.stop_words),
        "default_system": template.default_system,
        "media": template.media,
        "models": families.get(name, []),
    }


def _aliases() -> dict[str, list[str]]:
    """Each template with its other names."""
    groups: dict[str, list[str]] = {}
    for name in template_names():
        groups.setdefault(alias_of(name) or name, []).append(name)
    return {name: [other for other in names if other != name] for names in groups.values() for name in names}


def _end(template: Template) -> str:
    """Where the end of sequence comes from."""
    if template.efficient_eos:
        return "added at the very end"
    return "first stop word" if template.replace_eos else "tokenizer's"


def table() -> str:
    """All templates, one a line, in columns."""
    head = (
        "template",
        "also",
        "system",
        "tools",
        "thinks",
        "end of sequence",
        "stop words",
        "default system",
        "models",
    )
    lines = [head]
    for facts in map(facts_of, template_names()):
        lines.append(
            (
                facts["name"],
                ", ".join(facts["aliases"]) or "-",
                "in user" if facts["system"].startswith("in") else "own turn",
                facts["tool_format"] or "-",
                "yes" if facts["thinking"] else "-",
                facts["end"],
                " ".join(map(visible, facts["stop_words"])) or "-",
                _shortened(visible(facts["default_system"])) or "-",
                ", ".join(facts["models"]) or "-",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_SYSTEM else text[: _MOST_SYSTEM - 1] + "…"


def visible(text: str) -> str:
    """A text in one line, its line breaks and the like as in JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def sample(template: Template, *, system: str = SYSTEM, tools: bool, thoughts: bool) -> tuple[list[Message], str, str]:
    """Messages, system text and tools of the conversation that is shown."""
    first, second = template.thought_words
    thought = f"{first}The gauge says forty knots, so the boat stays in.{second}" if thoughts else ""
    asked = [Message("user", "Can the boat go out?")]
    if tools:
        asked += [Message("function", CALL), Message("observation", '{"knots": 40}')]
    answer = Message("assistant", f"{thought}No: it blows with 40 knots.")
    later = [Message("user", "And tomorrow?"), Message("assistant", "Ask me at six.")]
    return [*asked, answer, *later], system, TOOLS if tools else ""


def describe(name: str, *, system: str, tools: bool | None, thinking: bool | None) -> dict[str, Any]:
    """One template with its sample conversation. Raises ``UsageError`` for an unknown name."""
    template = load_template(name)
    with_tools = template.tool_format not in (None, "default") if tools is None else tools
    messages, told, listed = sample(template, system=system, tools=with_tools, thoughts=bool(template.thinking))
    turns = SlotRenderer(template, RenderRules(enable_thinking=thinking)).turns(messages, told, listed)
    shown = [_spans(turn) for turn in turns]
    if template.efficient_eos:
        shown[-1].append({"token": "eos_token", "trained": True})
    return facts_of(name) | {"turns": shown, "notes": notes_of(template)}


def _spans(turn: Turn) -> list[dict[str, Any]]:
    """The slots of a turn, each with whether it is trained."""
    parts: Sequence[tuple[Sequence[Slot], bool]] = ((turn.source, False), (turn.thought, False), (turn.target, True))
    return [
        ({"text": slot} if isinstance(slot, str) else {"token": slot.of or slot.text}) | {"trained": trained}
        for slots, trained in parts
        for slot in slots
    ]


def notes_of(template: Template) -> list[str]:
    """What one should know of a template before training with it."""
    notes = []
    if template.default_system:
        notes.append(f"a row without a system text gets: {visible(template.default_system)}")
    if template.replace_eos:
        notes.append(f"{template.stop_words[0]} becomes the tokenizer's end of sequence")
    if template.efficient_eos:
        notes.append("an answer carries no end of its own; one end of sequence is added to each example")
    others = [word for word in template.stop_words if not (template.replace_eos and word == template.stop_words[0])]
    if others:
        notes.append(f"generation also stops at {', '.join(map(visible, others))}")
    if template.thinking:
        notes.append(
            "the model thinks: where an answer has no thought, an empty one is written; enable_thinking true trains it, "
            "null and false do not, and false takes thoughts out of the answers"
        )
    if template.tool_format is None:
        notes.append("rows with tools need tool_format, since the template has no way to tell the model of them")
    if template.media:
        notes.append("pictures and sound of this template's models are not spelled yet; text is")
    return notes


def as_text(found: dict[str, Any], *, colour: bool) -> str:
    """``describe`` for the console: what is trained in green, or between [[ and ]]; single tokens in braces."""
    before, after = ("\x1b[32m", "\x1b[0m") if colour else ("[[", "]]")
    facts = [
        ("system", found["system"]),
        ("tools", found["tool_format"] or "-"),
        ("end of sequence", found["end"]),
        ("stop words", " ".join(map(visible, found["stop_words"])) or "-"),
        ("models", ", ".join(found["models"]) or "-"),
    ]
    also = f" (also {', '.join(found['aliases'])})" if found["aliases"] else ""
    lines = [f"{found['name']}{also}", *(f"  {name:<16} {value}" for name, value in facts)]
    lines += [f"  note             {note}" for note in found["notes"]]
    text, trained = "", False
    for span in (span for turn in found["turns"] for span in turn):
        if span["trained"] != trained:
            text += after if trained else before
            trained = not trained
        text += span["text"] if "text" in span else f"{{{span['token']}}}"
    text += after if trained else ""
    legend = "green is trained" if colour else "[[…]] is trained"
    return "\n".join([*lines, "", f"A conversation as it is spelled ({legend}, {{…}} is a single token):", "", text])


def run_templates(
    name: str | None, model: Path | None, *, system: str | None, tools: bool | None, thinking: str, json: bool
) -> int:
    """What ``trainkit templates`` does; returns its exit code: 1 where a template differs from the model's own.

    Raises ``UsageError`` for names, switches and folders that are none.
    """
    if thinking not in SWITCHES:
        raise UsageError(f'--thinking is true, false or null, not "{thinking}"')
    if model is not None:
        return _check(name, model, SWITCHES[thinking], json)
    if name is None:
        print_json({"templates": [facts_of(each) for each in template_names()]}) if json else print(table())
        return 0
    found = describe(name, system=SYSTEM if system is None else system, tools=tools, thinking=SWITCHES[thinking])
    print_json(found) if json else print(as_text(found, colour=sys.stdout.isatty()))
    return 0


def _check(name: str | None, model: Path, thinking: bool | None, json: bool) -> int:
    from registry.tokenizer import Tokenizer
    from trainkit.templates_check import check_all, check_as_text, check_template, ranking_as_text

    if name is None:
        checks = check_all(model, thinking)
        print_json({"model": str(model), "templates": [check.as_json() for check in checks]}) if json else print(
            ranking_as_text(checks, str(model))
        )
        return 0 if checks[0].same else 1
    check = check_template(name, Tokenizer(model), thinking)
    print_json({"model": str(model)} | check.as_json()) if json else print(check_as_text(check, str(model)))
    return 0 if check.same else 1
