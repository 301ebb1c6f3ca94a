"""Faults of rows with a list of turns: sharegpt and openai, and their preference and feedback rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datakit.validate.faults import Fault, is_blank, pointer, shown
from datakit.validate.judged import judgement
from datakit.validate.roles import meant_role
from datakit.validate.side_by_side import equal_answers, is_empty, is_json_list, is_spellable, is_whole
from datakit.validate.tools import listed_calls, tools_given, unasked_results, written_calls
from registry.datasets import OPENAI_TAGS, Layout, Tags
from registry.errors import RowFault, did_you_mean
from registry.formats.fields import kind_of
from registry.formats.sharegpt import roles_of
from registry.formats.weights import KEYS as WEIGHT_KEYS
from registry.formats.weights import check_whole, weight_of
from registry.records import MODEL_SIDE, USER_SIDE, Role


@dataclass(frozen=True, slots=True)
class Spelling:
    """How turns are spelled in one dataset: its ``tags``, the ``roles`` by name, and the ``family`` of its codes."""

    tags: Tags
    roles: Mapping[str, Role]
    family: str
    with_calls: bool  # tool_calls are read

    @property
    def other_keys(self) -> tuple[str, str]:
        """The keys of the other format for role and text."""
        other = Tags() if self.family == "OA" else OPENAI_TAGS
        return str(other.role_tag), str(other.content_tag)


def spelling_of(layout: Layout) -> Spelling:
    """How the turns of a layout are spelled."""
    tags = layout.tags
    family = "OA" if tags.role_tag == OPENAI_TAGS.role_tag else "SG"
    return Spelling(tags, roles_of(tags), family, layout.formatting == "openai")


def faults_of_turns(data: Mapping[str, Any], layout: Layout) -> list[Fault]:
    """Every fault in the structure of one row, in the order of its parts."""
    columns, spelling = layout.columns, spelling_of(layout)
    name, tools = str(columns.messages), data.get(columns.tools) if columns.tools else None
    found = _fields(data, layout, spelling)
    turns = data.get(name)
    if turns is None:
        reason = "a list of messages belongs here, not null" if name in data else "the field is missing"
        found.append(Fault(f"{spelling.family}001", pointer(name), reason))
    elif not isinstance(turns, list):
        reason = f"a list of messages belongs here, not {kind_of(turns)}"
        mendable = isinstance(turns, str) and is_json_list(turns)
        found.append(Fault(f"{spelling.family}002", pointer(name), reason, shown(turns), mendable))
    else:
        found += _turns(turns, name, spelling, tools, layout.kind)
        if spelling.with_calls:
            found += unasked_results(turns, name, str(layout.tags.role_tag), str(layout.tags.observation_tag))
    if layout.kind == "preference":
        found += _pair(data, str(columns.chosen), str(columns.rejected), spelling, tools)
    elif layout.kind == "feedback":
        found += judgement(data, str(columns.kto_tag))
    return found


def _fields(data: Mapping[str, Any], layout: Layout, spelling: Spelling) -> list[Fault]:
    """The faults of the system and tools columns, also where a system turn makes the column of no account."""
    found = []
    for column in (layout.columns.system, layout.columns.tools):
        value = data.get(column) if column else None
        if column is None or value is None:
            continue
        is_tools = column == layout.columns.tools
        if isinstance(value, str) or (is_tools and spelling.with_calls and isinstance(value, list | dict)):
            found += tools_given(value, column) if is_tools else []
            continue
        mendable = is_empty(value) or is_whole(value) or (is_tools and is_spellable(value))
        reason = f"text belongs here, not {kind_of(value)}"
        found.append(Fault(f"{spelling.family}018", pointer(column), reason, shown(value), mendable))
    return found


def _turns(turns: Sequence[Any], name: str, spelling: Spelling, tools: Any, kind: str) -> list[Fault]:
    found: list[Fault] = []
    before: Role | None = None  # of the turn before; None where it is not known
    known = True  # whether it is
    first = systems = leading_systems(turns, spelling)
    if systems > 1:
        reason = f"{systems} system turns stand in front, and only one can be read"
        found.append(
            Fault(f"{spelling.family}011", pointer(name, 1), reason, fixable=_can_join(turns[:systems], spelling))
        )
    for number, turn in enumerate(turns):
        at = pointer(name, number)
        if number < first:
            found += [*_text(turn, at, spelling, None), *_weight(turn, at, spelling, answers=False)]
            continue
        role, faults = _role(turn, at, spelling)
        found += faults
        if role is not None:
            found += _side(turn, at, spelling, role, before, begins=number == first) if known else []
            judged = kind == "feedback" and number == len(turns) - 1
            found += _said(turn, at, spelling, role, tools, judged=judged)
            found += _weight(turn, at, spelling, answers=role in MODEL_SIDE, judged=judged)
        before, known = role, role is not None
    return found + _end(len(turns) - first, name, spelling, before, known, kind)


def leading_systems(turns: Sequence[Any], spelling: Spelling) -> int:
    """How many system turns without tool calls stand in front."""
    count = 0
    for turn in turns:
        if not isinstance(turn, dict) or (spelling.with_calls and turn.get("tool_calls")):
            break
        if spelling.tags.system_tag is None or turn.get(str(spelling.tags.role_tag)) != spelling.tags.system_tag:
            break
        count += 1
    return count


def _can_join(turns: Sequence[Any], spelling: Spelling) -> bool:
    return all(isinstance(turn.get(str(spelling.tags.content_tag)), str) for turn in turns)


def _role(turn: Any, at: str, spelling: Spelling) -> tuple[Role | None, list[Fault]]:
    """The role of a turn, None where it has none that is known; and the faults of what names it."""
    tags, family = spelling.tags, spelling.family
    if not isinstance(turn, dict):
        return None, [Fault(f"{family}004", at, f"a message object belongs here, not {kind_of(turn)}", shown(turn))]
    role_key, text_key = spelling.other_keys
    name = turn.get(str(tags.role_tag))
    if spelling.with_calls and turn.get("tool_calls"):
        if isinstance(name, str) and spelling.roles.get(name) in MODEL_SIDE:
            return "function", []
        return "function", [
            Fault("TL012", at, f"tools are called by the model, not by {shown(name) or 'null'}", shown(name))
        ]
    if name is None:
        if isinstance(turn.get(role_key), str):
            reason = f'"{role_key}" and "{text_key}" stand where "{tags.role_tag}" and "{tags.content_tag}" belong'
            mendable = (
                isinstance(turn.get(text_key), str) and tags.content_tag not in turn and tags.role_tag not in turn
            )
            return None, [Fault(f"{family}014", at, reason, fixable=mendable)]
        return None, [
            Fault(
                f"{family}005",
                at,
                f'the message has no "{tags.role_tag}"; its keys: {", ".join(map(str, turn)) or "none"}',
            )
        ]
    both = role_key in turn or text_key in turn
    found = [Fault(f"{family}015", at, f'the message also has "{role_key}" or "{text_key}"')] if both else []
    if tags.system_tag is not None and name == tags.system_tag:
        return None, [*found, Fault(f"{family}010", at, "a system turn may only come first")]
    if isinstance(name, str) and name in spelling.roles:
        return spelling.roles[name], found
    meant = meant_role(name, tags) if isinstance(name, str) else None
    hint = f'Did you mean "{meant}"?' if meant else did_you_mean(str(name), spelling.roles)
    reason = f'"{name}" is not a role; known: {", ".join(spelling.roles)}. {hint}'.rstrip()
    code = f"{family}006" if meant else f"{family}007"
    return None, [*found, Fault(code, at, reason, shown(name), fixable=meant is not None)]


def _side(turn: Any, at: str, spelling: Spelling, role: Role, before: Role | None, *, begins: bool) -> list[Fault]:
    """The fault of a turn that speaks for the side that spoke before; results of several calls follow each other."""
    if before is None and not begins:
        return []
    expected = USER_SIDE if before is None or before in MODEL_SIDE else MODEL_SIDE
    if role in expected or (spelling.with_calls and role == before == "observation"):
        return []
    side = "the user's side" if expected is USER_SIDE else "the model's side"
    spelled = " or ".join(name for name, known in spelling.roles.items() if known in expected)
    name = turn.get(str(spelling.tags.role_tag))
    reason = f'roles must alternate: a turn of {side} ({spelled}) belongs here, not "{name}"'
    return [Fault(f"{spelling.family}008", at, reason, shown(name))]


def _said(turn: Any, at: str, spelling: Spelling, role: Role, tools: Any, *, judged: bool = False) -> list[Fault]:
    """The faults of what one turn says, or calls."""
    if spelling.with_calls and turn.get("tool_calls"):
        beside = turn.get(str(spelling.tags.content_tag))
        found = listed_calls(turn["tool_calls"], f"{at}/tool_calls", tools)
        if isinstance(beside, str) and not is_blank(beside):
            place = f"{at}{pointer(str(spelling.tags.content_tag))}"
            found.append(Fault("TL011", place, "text beside a tool call is not trained on", shown(beside)))
        return found
    found = _text(turn, at, spelling, role, judged=judged)
    if role == "function" and not found:
        tag = str(spelling.tags.content_tag)
        found = written_calls(turn[tag], f"{at}{pointer(tag)}", tools)
    return found


def _text(turn: Any, at: str, spelling: Spelling, role: Role | None, *, judged: bool = False) -> list[Fault]:
    """The faults of a turn's text; ``role`` None is the system's."""
    family, tag = spelling.family, str(spelling.tags.content_tag)
    place = f"{at}{pointer(tag)}"
    value = turn.get(tag)
    if value is None:
        reason = "text belongs here, not null" if tag in turn else "the field is missing"
        return [Fault(f"{family}012", place, reason)]
    if not isinstance(value, str):
        reason = f"text belongs here, not {kind_of(value)}"
        return [Fault(f"{family}013", place, reason, shown(value), is_whole(value))]
    if role in (None, "observation") or not is_blank(value):
        return []
    if role == "user":
        return [Fault(f"{family}016", place, "the question is empty")]
    return [
        Fault("KT004", place, "the judged answer is empty")
        if judged
        else Fault(f"{family}017", place, "the answer is empty")
    ]


def _weight(turn: Any, at: str, spelling: Spelling, *, answers: bool, judged: bool = False) -> list[Fault]:
    """The fault of what a turn says of its weight."""
    if turn.keys().isdisjoint(WEIGHT_KEYS):
        return []
    try:
        weight = weight_of(turn, "", answers=answers)
        if judged:
            check_whole(weight, "")
    except RowFault as fault:
        key = fault.field.removeprefix(".")
        place = f"{at}{pointer(key)}" if key else at
        return [Fault(f"{spelling.family}019", place, fault.reason, shown(turn.get(key)))]
    return []


def _end(count: int, name: str, spelling: Spelling, last: Role | None, known: bool, kind: str) -> list[Fault]:
    """The fault of a conversation that ends with the wrong side, or has no turn."""
    if kind == "preference":
        if count and (not known or last in USER_SIDE):
            return []
        return [Fault("PF006", pointer(name), f"a prompt must end with the user's turn; this one has {count} turns")]
    if not count:
        return [Fault(f"{spelling.family}003", pointer(name), "there is no turn in it")]
    if not known or last in MODEL_SIDE:
        return []
    reason = f"the last turn must be the model's answer; {count} turns end with the user's side"
    return [Fault(f"{spelling.family}009", pointer(name), reason)]


def _pair(data: Mapping[str, Any], chosen: str, rejected: str, spelling: Spelling, tools: Any) -> list[Fault]:
    found: list[Fault] = []
    for column in (chosen, rejected):
        turn, at = data.get(column), pointer(column)
        if turn is None:
            reason = "a message object belongs here, not null" if column in data else "the field is missing"
            found.append(Fault("PF001", at, reason))
        elif not isinstance(turn, dict):
            found.append(Fault("PF002", at, f"a message object belongs here, not {kind_of(turn)}", shown(turn)))
        else:
            found += _answer(turn, at, column, spelling, tools)
    tag = str(spelling.tags.content_tag)
    if found:
        return found
    one, other = data[chosen], data[rejected]
    if spelling.with_calls and (one.get("tool_calls") or other.get("tool_calls")):
        same = one.get("tool_calls") == other.get("tool_calls")
        return [Fault("PF005", pointer(chosen), "chosen and rejected call the same")] if same else []
    if one.get(spelling.tags.role_tag) != other.get(spelling.tags.role_tag):
        return []
    return equal_answers(one[tag], other[tag], pointer(chosen))


def _answer(turn: dict[str, Any], at: str, column: str, spelling: Spelling, tools: Any) -> list[Fault]:
    role, found = _role(turn, at, spelling)
    if role is None:
        if [fault.code for fault in found] == [f"{spelling.family}010"]:
            return [Fault("PF003", at, f'an answer must be the model\'s turn, not "{spelling.tags.system_tag}"')]
        return found
    if role not in MODEL_SIDE:
        name = turn.get(str(spelling.tags.role_tag))
        return [*found, Fault("PF003", at, f'an answer must be the model\'s turn, not "{name}"', shown(name))]
    said = _said(turn, at, spelling, role, tools)
    empty = Fault("PF004", f"{at}{pointer(str(spelling.tags.content_tag))}", f"the {column} answer is empty")
    found += [empty if fault.code == f"{spelling.family}017" else fault for fault in said]
    return found + _weight(turn, at, spelling, answers=True, judged=True)
