"""A store and its answers as people read them, and one answer as a JSON object."""

from __future__ import annotations

import base64
import time
from typing import Any

import orjson

from datakit.augment.answer import Stored
from datakit.augment.store.listing import Entry, Group, Listing
from datakit.augment.store.prune import Pruned
from datakit.outcome import Outcome
from datakit.summary import visible

SHORT_KEY = 12  # digits that tell a key from others in any store that is not huge
WIDTH = 120


def listing_as_text(found: Listing) -> str:
    """A headline, a table of totals, and a table of the newest answers."""
    from datakit.stats.tables import Table, lines_of

    refused = f", {counted(found.refusals, 'refusal')}" if found.refusals else ""
    lines = [f"{found.path}: {counted(found.answers, 'answer')}{refused}, {size(found.file_bytes)}"]
    if found.about.get("note"):
        lines.append(f"  {visible(found.about['note'])}")
    if found.groups:
        heads = (
            "model",
            "provider",
            "finish",
            "answers",
            "refused",
            "tokens in",
            "tokens out",
            "packed",
            "first",
            "last",
        )
        totals = Table("", heads, [_group(group) for group in found.groups], left=frozenset({0, 1, 2, 8, 9}))
        lines += ["", *lines_of(totals, WIDTH)]
    if found.newest:
        columns = ("newest", "when", "model", "finish", "tokens in", "tokens out", "packed")
        newest = Table("", columns, [_entry(entry) for entry in found.newest], left=frozenset({0, 1, 2, 3}))
        lines += ["", *lines_of(newest, WIDTH)]
    return "\n".join(lines)


def answer_as_text(stored: Stored) -> str:
    """What is counted of it, what was asked, and what came."""
    what = "answer" if stored.is_answer else f"refusal, status {stored.status}"
    lines = [
        f"{stored.key}  {what}",
        f"{stored.model} by {stored.provider}, {when(stored.created)}, {stored.finish}, {stored.prompt_tokens:,} tokens in, "
        f"{stored.completion_tokens:,} out, {stored.seconds:.1f} s, {counted(stored.attempts, 'attempt')}",
    ]
    request = request_of(stored)
    if isinstance(request, dict):
        lines += [f"{name}: {_short(request[name])}" for name in ("family", "recipe", "sampling", "schema", "sample")
                  if request.get(name)]  # fmt: skip
        lines += [part for role, content in request.get("messages", ()) for part in ("", f"--- {role}", content)]
    else:
        lines += ["", "--- request", str(request)]
    answer = answer_of(stored)
    if answer is None:
        lines += ["", "--- body, as it came", stored.body.decode("utf-8", "backslashreplace")]
    else:
        text, thoughts = answer
        lines += ["", "--- thoughts", thoughts] if thoughts else []
        lines += ["", "--- answer", text]
    return visible("\n".join(lines))


def exported_as_text(outcome: Outcome) -> str:
    """What was written, and what was not."""
    (out,) = outcome.outputs
    lines = [f"{out}: {outcome.rows_out:,} of {outcome.rows_in:,} answers, {size(outcome.details['bytes'])}"]
    left_out = [*outcome.rejected.items(), *((f"left out ({why})", n) for why, n in outcome.filtered.items())]
    return "\n".join([*lines, *(f"  {count:>8,}  {reason}" for reason, count in left_out)])


def pruned_as_text(pruned: Pruned) -> str:
    """What went or would go, and what is left."""
    what = f"{counted(pruned.answers, 'answer')} and {counted(pruned.refusals, 'refusal')}, {size(pruned.bytes)} packed"
    if pruned.done:
        return f"{pruned.store}: removed {what}; what is left: {pruned.left:,} in {size(pruned.file_bytes)}"
    if not pruned.answers + pruned.refusals:
        return f"{pruned.store}: nothing to remove; all {pruned.left:,} stay"
    return f"{pruned.store}: would remove {what}; {pruned.left:,} would be left\n  Remove them with the same command and --yes."


def answer_as_json(stored: Stored) -> dict[str, Any]:
    """All that is kept: the request as an object, the body as text (in base64 where it is no UTF-8)."""
    try:
        body = {"body": stored.body.decode("utf-8")}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(stored.body).decode()}
    return {
        "key": stored.key,
        "created": stored.created,
        "provider": stored.provider,
        "model": stored.model,
        "status": stored.status,
        "finish": stored.finish,
        "prompt_tokens": stored.prompt_tokens,
        "completion_tokens": stored.completion_tokens,
        "seconds": stored.seconds,
        "attempts": stored.attempts,
        "request": request_of(stored),
        **body,
    }


def answer_of(stored: Stored) -> tuple[str, str] | None:
    """Text and thoughts of an answer; None for a refusal, or a body in which there is none."""
    from datakit.augment.failures import CallFailed
    from datakit.augment.providers import read_body

    try:
        answer = read_body(stored.body) if stored.is_answer else None
    except CallFailed:
        return None
    return (answer.text, answer.thoughts) if answer else None


def request_of(stored: Stored) -> Any:
    """The request as the object it spells, or as text where it spells none."""
    try:
        return orjson.loads(stored.request)
    except orjson.JSONDecodeError:
        return stored.request.decode("utf-8", "backslashreplace")


def when(seconds: float) -> str:
    """Local time, to the second."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "at no known time"


def counted(count: int, what: str) -> str:
    """``1 answer``, ``2,000 answers``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def size(num_bytes: float) -> str:
    """``1.4 MB``: a size as people say it."""
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def _group(group: Group) -> tuple[str, ...]:
    names = (visible(name) for name in (group.model, group.provider, group.finish))
    counts = (group.answers, group.refusals, group.prompt_tokens, group.completion_tokens)
    return (*names, *(f"{count:,}" for count in counts), size(group.bytes), when(group.first), when(group.last))


def _entry(entry: Entry) -> tuple[str, ...]:
    counts = (f"{entry.prompt_tokens:,}", f"{entry.completion_tokens:,}", size(entry.bytes))
    return (entry.key[:SHORT_KEY], when(entry.created), visible(entry.model), visible(entry.finish), *counts)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
