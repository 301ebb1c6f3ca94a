"""What --fix does to a row: only what can be meant one way is changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datakit.validate.faults import Fault, is_blank, steps_of
from datakit.validate.judged import JUDGEMENTS
from datakit.validate.roles import meant_role
from datakit.validate.side_by_side import is_empty, is_whole
from datakit.validate.turns import leading_systems, spelling_of
from registry.datasets import OPENAI_TAGS, Layout, Tags
from registry.errors import UsageError

JOINT = "\n\n"  # between system turns that become one


@dataclass(frozen=True, slots=True)
class Place:
    """The value of a row that is to be mended: under ``key`` of ``holder``, an object or a list within ``row``."""

    row: dict[str, Any]
    holder: Any
    key: Any
    fault: Fault
    layout: Layout

    @property
    def value(self) -> Any:
        """What stands there."""
        return self.holder[self.key]

    def put(self, value: Any) -> None:
        """Let ``value`` stand there."""
        self.holder[self.key] = value


def mended(data: Mapping[str, Any], faults: Iterable[Fault], layout: Layout) -> dict[str, Any]:
    """A copy of a row with every fault mended that says it can be.

    Mending brings other faults to light (a renamed key, then the role under it), so it is done again until no fault
    is left that can be mended. What is not sure stays as it is.
    """
    try:
        row: dict[str, Any] = copy.deepcopy(dict(data))
    except RecursionError:  # hundreds of levels deep
        return dict(data)
    for fault in sorted(faults, key=lambda fault: fault.code[2:] == "011"):  # joining turns moves those behind
        if fault.fixable and (mend := MENDS.get(fault.code)) is not None:
            place = _place(row, fault, layout)
            if place is not None:
                mend(place)
    return row


def _place(row: dict[str, Any], fault: Fault, layout: Layout) -> Place | None:
    """Where a fault is; None where another mend took it away."""
    steps: list[Any] = steps_of(fault.pointer) or [""]
    holder: Any = row
    for step in steps[:-1]:
        holder = _within(holder, step)
        if holder is None:
            return None
    key = int(steps[-1]) if isinstance(holder, list) else steps[-1]
    there = key < len(holder) if isinstance(holder, list) else isinstance(holder, dict) and key in holder
    return Place(row, holder, key, fault, layout) if there else None


def _within(holder: Any, step: str) -> Any:
    if isinstance(holder, dict):
        return holder.get(step)
    return holder[int(step)] if isinstance(holder, list) and int(step) < len(holder) else None


def _as_text(place: Place) -> None:
    """A whole number as text; an optional field with nothing in it is dropped, tools become JSON text."""
    if is_whole(place.value):
        place.put(str(place.value))
    elif is_empty(place.value):
        del place.holder[place.key]
    elif isinstance(place.value, list | dict):
        place.put(json.dumps(place.value, ensure_ascii=False))


def _as_list(place: Place) -> None:
    """A list from its JSON text; an optional field with nothing in it is dropped."""
    if isinstance(place.value, str) and not is_blank(place.value):
        place.put(json.loads(place.value))
    else:
        del place.holder[place.key]


def _as_judgement(place: Place) -> None:
    place.put(JUDGEMENTS[place.value.strip().lower()])


def _own_role(place: Place) -> None:
    tag = str(place.layout.tags.role_tag)
    turn = place.value
    turn[tag] = meant_role(turn[tag], place.layout.tags)


def _join_systems(place: Place) -> None:
    """The system turns at the start as one."""
    tags = place.layout.tags
    turns, text = place.holder, str(tags.content_tag)
    count = leading_systems(turns, spelling_of(place.layout))
    said = [turn[text] for turn in turns[:count] if not is_blank(turn[text])]
    turns[0][text] = JOINT.join(dict.fromkeys(said))  # said twice is said once
    del turns[1:count]


def _own_keys(place: Place) -> None:
    """``role`` and ``content`` for ``from`` and ``value``, or the other way round, in their places."""
    tags = place.layout.tags
    other = Tags() if tags.role_tag == OPENAI_TAGS.role_tag else OPENAI_TAGS
    names = {other.role_tag: str(tags.role_tag), other.content_tag: str(tags.content_tag)}
    place.put({names.get(key, key): value for key, value in place.value.items()})


def _as_tools(place: Place) -> None:
    """One tool as a list of it, in JSON text where it was; tools that are nothing are dropped."""
    value = json.loads(place.value) if isinstance(place.value, str) else place.value
    if not value:
        del place.holder[place.key]
    else:
        place.put(json.dumps([value], ensure_ascii=False) if isinstance(place.value, str) else [value])


def _strip_start(place: Place) -> None:
    assert place.fault.span is not None
    place.put(place.value[place.fault.span[1] :])


def _decode_again(place: Place) -> None:
    place.put(_fix_encoding()(place.value))


def _fix_encoding() -> Callable[[str], str]:
    try:
        from ftfy import fix_encoding
    except ModuleNotFoundError:
        raise UsageError("mending text needs ftfy", where="--fix-text", mend="pip install 'tunekit[text]'") from None
    return fix_encoding


def check_text_mending() -> None:
    """Raise ``UsageError`` with the line that installs it where ftfy is missing."""
    _fix_encoding()


SPELLED_ANEW = ("RD006", "RD010")  # gone as soon as the row is spelled again
# code -> what mends it
MENDS: Mapping[str, Callable[[Place], None]] = {
    "AL002": _as_text,
    "AL005": _as_list,
    "PF002": _as_text,
    "KT002": _as_judgement,
    "TL002": _as_tools,
    "CH004": _decode_again,
    "CH005": _strip_start,
    **dict.fromkeys(("SG002", "OA002"), _as_list),
    **dict.fromkeys(("SG006", "OA006"), _own_role),
    **dict.fromkeys(("SG011", "OA011"), _join_systems),
    **dict.fromkeys(("SG013", "OA013", "SG018", "OA018"), _as_text),
    **dict.fromkeys(("SG014", "OA014"), _own_keys),
}
