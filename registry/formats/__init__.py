"""Source formats: a row to a record and back, one format a file, and the format that a row looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from registry.datasets import OPENAI_TAGS, Columns, Layout, Tags
from registry.errors import UsageError, did_you_mean, nearest
from registry.formats import alpaca, openai, openai_strict, sharegpt, trl
from registry.records import Record

Row = Mapping[str, Any]

# formatting (a key of dataset_info.json, or trl) -> reader; raises RowFault for a row that cannot be a record
READERS: dict[str, Callable[[Row, Layout], Record]] = {
    "alpaca": alpaca.to_record,  # instruction, input, output; chosen and rejected; kto_tag; text
    "sharegpt": sharegpt.to_record,  # conversations of from/value
    "openai": openai.to_record,  # messages of role/content
    "trl": trl.to_record,  # whole conversations in chosen and rejected; convert alone looks for them
}
# the same by LLaMA-Factory's rules, for `compat: strict`
STRICT_READERS = READERS | {"openai": openai_strict.to_record_strict}
# shape of rows -> writer of any kind of record in it; raises RowFault for a record that it has no place for
WRITERS: dict[str, Callable[[Record], dict[str, Any]]] = {
    "alpaca": alpaca.from_record,
    "sharegpt": sharegpt.from_record,
    "openai": openai.from_record,
}

_NOTHING = Columns(**dict.fromkeys(Columns.__dataclass_fields__))


def columns(**given: str | None) -> Columns:
    """Only the columns given; all others None."""
    return Columns(**{**{name: getattr(_NOTHING, name) for name in Columns.__dataclass_fields__}, **given})


# What `--format NAME` means: the layout a row of that format has when nothing else is said.
LAYOUTS: dict[str, Layout] = {
    "alpaca": Layout(
        "alpaca", columns(prompt="instruction", query="input", response="output", system="system", history="history")
    ),
    "sharegpt": Layout("sharegpt", columns(messages="conversations", system="system", tools="tools")),
    "openai": Layout("openai", columns(messages="messages", tools="tools"), OPENAI_TAGS),
    "preference": Layout(
        "alpaca",
        columns(
            prompt="instruction",
            query="input",
            chosen="chosen",
            rejected="rejected",
            system="system",
            history="history",
        ),
        ranking=True,
    ),
    "kto": Layout(
        "alpaca", columns(prompt="instruction", query="input", response="output", system="system", kto_tag="kto_tag")
    ),
    "text": Layout("alpaca", columns(prompt="text")),
}


def layout_named(name: str, row: Row | None = None) -> Layout:
    """The layout called ``name``, fitted to ``row`` where a format comes in two shapes (preference, kto).

    Raises ``UsageError`` for an unknown name.
    """
    if name not in LAYOUTS:
        raise UsageError(f'unknown format "{name}"', mend=f"Known: {', '.join(LAYOUTS)}. {did_you_mean(name, LAYOUTS)}")
    if row is not None and name in ("preference", "kto"):
        seen = detect(row)
        if seen is not None and seen.kind == LAYOUTS[name].kind:
            return seen
    return LAYOUTS[name]


def detect(row: Row) -> Layout | None:
    """The layout that a row looks like by its field names, or None."""
    message_field = next((f for f in ("conversations", "messages") if isinstance(row.get(f), list)), None)
    system = "system" if "system" in row else None
    tools = "tools" if "tools" in row else None
    pair = {"chosen": "chosen", "rejected": "rejected"} if {"chosen", "rejected"} <= row.keys() else {}
    kto = next((f for f in ("kto_tag", "label") if isinstance(row.get(f), bool)), None)
    if message_field:
        first = next((m for m in row[message_field] if isinstance(m, dict)), {})
        spelled_as_openai = "role" in first
        tags = OPENAI_TAGS if spelled_as_openai else Tags()
        formatting = "openai" if spelled_as_openai and not pair and not kto else "sharegpt"
        return Layout(
            formatting,
            columns(messages=message_field, system=system, tools=tools, kto_tag=kto, **pair),
            tags,
            bool(pair),
        )
    history = "history" if "history" in row else None
    prompt = next((f for f in ("instruction", "prompt") if f in row), None)
    if prompt and pair:
        query = "input" if "input" in row else None
        return Layout(
            "alpaca", columns(prompt=prompt, query=query, system=system, history=history, **pair), ranking=True
        )
    response = next((f for f in ("output", "response", "completion") if f in row), None)
    if prompt and response:
        query = "input" if "input" in row else None
        chosen = columns(prompt=prompt, query=query, response=response, system=system, history=history, kto_tag=kto)
        return Layout("alpaca", chosen)
    if "text" in row and not prompt:
        return LAYOUTS["text"]
    return None


def nearest_parts(row: Row) -> dict[str, str]:
    """For rows of no known format: the parts that their columns come nearest to, at most two, part → column."""
    known: dict[str, tuple[str, ...]] = {
        "instruction": ("question", "query", "prompt", "ask", "user"),
        "output": ("answer", "response", "reply", "completion", "assistant"),
    }
    known |= {
        "text": ("content", "body", "document", "article"),
        "conversations": ("dialogue", "dialog", "turns", "chat"),
    }
    found = {}
    for part, likely in known.items():
        name = next((c for c in row if c.casefold() in likely), None) or next(
            iter(nearest(part, list(row), most=1) or [n for word in likely for n in nearest(word, list(row), most=1)]),
            None,
        )
        if name and name != part:
            found[part] = name
    return dict(list(found.items())[:2])


def undetected(row: Row, where: str) -> UsageError:
    """The error for rows of no known format: the columns there are, and the mapping that comes nearest."""
    listed = ", ".join(row) or "none"
    hints = " ".join(f"--map {part}={name}" for part, name in nearest_parts(row).items())
    return UsageError(
        f"these columns belong to no known format: {listed}",
        where=where,
        mend=f"Nearest mapping:  datakit convert … {hints}"
        if hints
        else "Name them with --map, e.g. --map instruction=COLUMN --map output=COLUMN.",
    )
