"""What a step did to a row, told in a few lines."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from datakit.lineage.ancestor import Ancestor
from datakit.lineage.remake import differences
from datakit.lineage.steps import RoadEnds, Step
from datakit.origins import ORIGIN, origin_of, seeds_of
from registry.errors import TunekitError
from registry.rows import Row

MOST_TWINS = 5  # dropped rows that are named
NOT_TOLD = ("seed_row",)  # of _origin: told on its own


def deeds_of(step: Step | None, before: Ancestor | None, after: Row) -> tuple[str, ...]:
    """The lines for one step; ``step`` None is a row that tells of a model by its ``_origin``, without a manifest."""
    if step is None or step.command == "augment":
        return (*_augmented(after.data), *_paid(step, after.data))
    if step.is_rejects:
        return (_why_rejected(after.data),)
    return (*TELLERS.get(step.command, _other)(step, before, after.data), _rows(step))


def _rows(step: Step) -> str:
    """The books of the step, in one line."""
    parts = [f"{step.rows_in:,} rows in", f"{step.rows_out:,} out", f"{sum(step.rejected.values()):,} rejected"]
    return ", ".join([*parts, *(f"{count:,} left out ({how})" for how, count in step.filtered.items())])


def _why_rejected(fault: Mapping[str, Any]) -> str:
    field = f'field "{fault["field"]}": ' if fault.get("field") else ""
    kept = fault.get("kept")
    instead = f"; {kept.get('file')}, row {kept.get('row')} was kept in its place" if isinstance(kept, Mapping) else ""
    similar = (
        f" (similarity {fault['similarity']:.3g})" if instead and isinstance(fault.get("similarity"), float) else ""
    )
    return f"{field}{fault.get('reason')}{instead}{similar}"


def _converted(step: Step, before: Ancestor | None, after: Mapping[str, Any]) -> list[str]:
    options, lines = step.options, []
    if options.get("to") != "keep":
        lines.append(f"read as {step.details.get('format')}, written as {options.get('to')}")
        if options.get("map"):
            lines.append("parts: " + ", ".join(f"{part} = {column}" for part, column in options["map"].items()))
        left_out = [n for n in step.details.get("left_out") or () if before is None or _has(before.row.data, n)]
        if left_out:
            lines.append(f"left out: {', '.join(left_out)}")
    elif before is not None:
        lines += differences(before.row.data, after) or ["the row is unchanged"]
    if options.get("fill"):
        lines.append("filled in: " + ", ".join(f"{{{{{name}}}}} = {value}" for name, value in options["fill"].items()))
    if options.get("where"):
        lines.append(f"taken by --where {options['where']}")
    if options.get("shuffle"):
        lines.append(f"shuffled with seed {options.get('seed')}")
    return lines


def _has(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has the column that ``name`` (``rating``, ``messages[].id``) is about."""
    return name.partition("[")[0].partition(" ")[0] in row


def _validated(step: Step, before: Ancestor | None, after: Mapping[str, Any]) -> list[str]:
    stage = f" for {step.options['stage']}" if step.options.get("stage") else ""
    mended = differences(before.row.data, after) if before is not None else []
    if mended:
        return [f"it was mended (--fix), and no error is left in it{stage}", *mended]
    return [f"no error was found in it{stage}"]


def _deduplicated(step: Step, before: Ancestor | None, after: Mapping[str, Any]) -> list[str]:
    stands_for = [f"row {n} of {file}" for file, n in _dropped_for(step, before)] if before is not None else []
    if not stands_for:
        return ["it was kept; no other row was dropped for it"]
    more = f" and {len(stands_for) - MOST_TWINS:,} more" if len(stands_for) > MOST_TWINS else ""
    return [f"it was kept, and these were dropped for it: {', '.join(stands_for[:MOST_TWINS])}{more}"]


def _dropped_for(step: Step, kept: Ancestor) -> Iterator[tuple[str, int]]:
    """The rows in whose place ``kept`` was kept, as far as the file that lists them is there and unchanged."""
    wanted = {"file": kept.told, "row": kept.row.number}
    for told in (told for told in step.outputs if told.is_rejects):
        with contextlib.suppress(RoadEnds, OSError, orjson.JSONDecodeError), Path(step.find(told)).open("rb") as lines:
            for line in lines:
                fault = orjson.loads(line)
                if fault.get("kept") == wanted:
                    yield fault["file"], fault["row"]


def _split(step: Step, before: Ancestor | None, after: Mapping[str, Any]) -> list[str]:
    sides = step.details.get("sides") or {}
    own = next((name for name, side in sides.items() if Path(side["file"]).name == Path(step.file).name), "?")
    asked = [f"{name} {step.options[name]}" for name in ("val", "test") if step.options.get(name) not in (None, "0")]
    asked += [f"{name} {step.options[name]}" for name in ("by", "stratify") if step.options.get(name)]
    rows = sides.get(own, {}).get("rows", 0)
    return [
        f"it went to {own}, with {rows:,} of {step.rows_out:,} rows ({', '.join(asked)}, seed {step.options['seed']})"
    ]


def _augmented(after: Mapping[str, Any]) -> list[str]:
    origin = origin_of(after) or {}
    told = [f"{key} {value}" for key, value in origin.items() if key not in NOT_TOLD and value is not None]
    refs = seeds_of(after)
    lines = [f"a model made it{': ' if told else ''}{', '.join(told)}"]
    return [*lines, "from " + "; ".join(map(str, refs))] if refs else [*lines, f"its {ORIGIN} names no seed row"]


def _paid(step: Step | None, after: Mapping[str, Any]) -> list[str]:
    """What the answers behind a made row took, where the store of its run still has them."""
    origin = origin_of(after) or {}
    keys = [str(key) for key in origin.get("requests") or [origin.get("request")] if key]
    named = str(step.details.get("store") or "") if step is not None else ""
    if step is None or not named or not keys:
        return []
    beside = Path(step.manifest).parent / Path(named).name  # where it lies when the files were moved together
    store = next((path for path in (Path(named), beside) if path.is_file()), None)
    if store is None:
        return []
    from datakit.augment.store import AnswerStore

    try:
        with AnswerStore(store) as answers:
            found = answers.get_many(keys)
    except (TunekitError, ValueError):  # explaining goes on without it
        return []
    return [
        f"{one.prompt_tokens:,} tokens in, {one.completion_tokens:,} out by {one.model}:  "
        f"datakit store show {store} {key[:12]}"
        for key in keys
        if (one := found.get(key)) is not None
    ]


def _other(step: Step, before: Ancestor | None, after: Mapping[str, Any]) -> list[str]:
    given = [f"{name} {value}" for name, value in step.options.items() if value not in (None, False, "", [], {})]
    return [", ".join(given)] if given else []


# command -> what it did to one row: (step, the row before where it is known, the row after) -> lines
TELLERS: dict[str, Callable[[Step, Ancestor | None, Mapping[str, Any]], list[str]]] = {
    "convert": _converted,
    "validate": _validated,
    "dedup": _deduplicated,
    "split": _split,
}
