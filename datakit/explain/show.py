"""An explained row as people read it, one step a paragraph, and as ``--json`` prints it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from datakit.explain import Explained, Hop
from datakit.preview import row_as_json, row_as_text
from datakit.summary import visible
from datakit.values import tame
from datakit.write import raw_text
from registry.rows import BadRow, Row

MOST_SHOWN = 240  # characters of a row that people are shown


def as_text(found: Explained, colour: bool) -> str:
    """Paragraphs: the row, each step back, the row where the road begins, and how the row encodes."""
    parts = [f"{found.file}, row {found.row.number}\n{_content(found.row)}"]
    parts += [_hop(number, hop) for number, hop in enumerate(found.hops, start=1)]
    parts.append(f"The road ends here: {found.end}.")
    if found.entries:
        parts.append("Registered as " + "; ".join(found.entries) + ".")
    if found.encoding is not None:
        parts.append(row_as_text(found.encoding, colour))
    else:
        parts.append("How it encodes is not known: its columns belong to no known format.")
    return "\n\n".join(parts)


def _hop(number: int, hop: Hop) -> str:
    lines = [f"{number}. {hop.command}", *(f"   {visible(deed)}" for deed in hop.deeds)]
    if hop.before is None:
        files = ", ".join(told.file for told in hop.step.inputs) if hop.step else ""
        return "\n".join([*lines, f"   from a row of {files} that is not known" if files else "   from an unknown row"])
    before = hop.before.row
    lines.append(f"   from {hop.before.path}, row {before.number}  ({hop.before.how})")
    if _spelled(before) != _spelled(hop.row):
        lines.append(_content(before))
    return "\n".join(lines)


def _content(row: Row | BadRow) -> str:
    text = visible(_spelled(row).replace("\n", " "))
    return f"       {text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + '…'}"


def _spelled(row: Row | BadRow) -> str:
    return raw_text(row.data) if isinstance(row, Row) else row.raw


def as_json(found: Explained) -> dict[str, Any]:
    """The object that ``--json`` prints: ``steps`` from the nearest back, ``source`` the farthest row that is known."""
    last = found.hops[-1].before if found.hops else None
    source = None
    if last is not None:
        source = {"file": last.path, "row": last.row.number, "data": _data(last.row.data)}
    return {
        "command": "explain",
        "file": found.file,
        "row": found.row.number,
        "data": _data(found.row.data) if isinstance(found.row, Row) else None,
        "steps": [_hop_as_json(hop) for hop in found.hops],
        "source": source,
        "road_ends": found.end,
        "registered": list(found.entries),
        "encoding": row_as_json(found.encoding) if found.encoding is not None else None,
    }


def _hop_as_json(hop: Hop) -> dict[str, Any]:
    step = hop.step
    return {
        "command": hop.command,
        "file": hop.file,
        "row": hop.row.number,
        "done": list(hop.deeds),
        "tool": step.tool if step else None,
        "manifest": str(step.manifest) if step else None,
        "options": dict(step.options) if step else {},
        "inputs": [told.file for told in step.inputs] if step else [],
        "from": {"file": hop.before.path, "row": hop.before.row.number, "how": hop.before.how} if hop.before else None,
        "unknown": hop.unknown or None,
    }


def _data(data: Mapping[str, Any]) -> Any:
    return tame(data, Counter())
