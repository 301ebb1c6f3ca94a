"""A condition worked out over many rows at once, in SQL's three values: true, false and null."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datakit.layout import lookup
from datakit.where.functions import FUNCTIONS, Function
from datakit.where.syntax import FLAG, Call, Column, Literal, Node, fail, parse
from datakit.where.values import ARITHMETIC, COMPARE, Fault, Value, as_spelled, equal, told

CONDITION = FLAG  # what rows are left out or rejected by, as the books name it
Rows = Sequence[Mapping[str, Any]]
Evaluate = Callable[[Rows], list[Value]]


@dataclass(frozen=True, slots=True)
class Where:
    """A condition: its ``text``, the ``columns`` it names, and those of them written in double quotes."""

    text: str
    columns: tuple[str, ...]
    quoted: frozenset[str]
    _evaluate: Evaluate

    def judge(self, rows: Rows) -> list[bool | Fault | None]:
        """For each row true, false, null (a value is missing), or why it cannot be said."""
        return [_truth(value) for value in self._evaluate(rows)]


def parse_where(condition: str) -> Where:
    """A condition ready for rows. Raises ``UsageError`` that shows the place of what is wrong."""
    tree = parse(condition, list(FUNCTIONS))
    columns = list(_columns(tree))
    named = tuple(dict.fromkeys(column.name for column in columns))
    return Where(condition, named, frozenset(c.name for c in columns if c.quoted), _compiled(tree, condition))


def _columns(node: Node) -> Iterator[Column]:
    if isinstance(node, Column):
        yield node
    elif isinstance(node, Call):
        for part in node.parts:
            yield from _columns(part)


def _truth(value: Value) -> bool | Fault | None:
    if value is None or value is True or value is False or isinstance(value, Fault):
        return value
    return Fault(f"a condition is true or false, not {told(value)}")


def _compiled(node: Node, condition: str) -> Evaluate:
    if isinstance(node, Literal):
        value = node.value
        return lambda rows: [value] * len(rows)
    if isinstance(node, Column):
        return _column(node)
    parts = [_compiled(part, condition) for part in node.parts]
    if node.name in COMPARE or node.name in ARITHMETIC:
        return _of_two({**COMPARE, **ARITHMETIC}[node.name], *parts)
    if node.name in ("and", "or"):
        return _joined(node.name == "and", parts)
    if node.name in ("like", "ilike", "~"):
        pattern = node.parts[1]
        assert isinstance(pattern, Literal)
        matcher = _like if node.name != "~" else _regex
        return _matching(matcher(str(pattern.value), node.name, condition, pattern.at), node.name, parts[0])
    if node.name in FUNCTIONS:
        return _function(node, FUNCTIONS[node.name], parts, condition)
    return _PLAIN_CALLS[node.name](parts)


def _column(node: Column) -> Evaluate:
    name, step = node.name, node.steps[0]
    if len(node.steps) == 1:
        return lambda rows: [as_spelled(row.get(step)) for row in rows]
    return lambda rows: [as_spelled(lookup(row, name, steps=node.steps)) for row in rows]


def _of_two(work: Callable[[Value, Value], Value], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(rows: Rows) -> list[Value]:
        pairs = zip(left(rows), right(rows), strict=True)
        return [_first_fault(a, b) or work(a, b) for a, b in pairs]

    return evaluate


def _first_fault(*values: Value) -> Fault | None:
    return next((value for value in values if type(value) is Fault), None)


def _joined(both: bool, parts: Sequence[Evaluate]) -> Evaluate:
    """``and`` (where ``both``) or ``or``. What decides goes before faults, whichever comes first."""
    deciding = not both

    def one(values: Sequence[Value]) -> Value:
        truths = [_truth(value) for value in values]
        if deciding in truths:
            return deciding
        return _first_fault(*truths) or (None if None in truths else both)

    def evaluate(rows: Rows) -> list[Value]:
        return [one(values) for values in zip(*(part(rows) for part in parts), strict=True)]

    return evaluate


def _not(parts: Sequence[Evaluate]) -> Evaluate:
    (part,) = parts

    def one(value: Value) -> Value:
        truth = _truth(value)
        return truth if truth is None or isinstance(truth, Fault) else not truth

    return lambda rows: [one(value) for value in part(rows)]


def _is_null(parts: Sequence[Evaluate]) -> Evaluate:
    (part,) = parts
    return lambda rows: [value if isinstance(value, Fault) else value is None for value in part(rows)]


def _negative(parts: Sequence[Evaluate]) -> Evaluate:
    return _of_two(ARITHMETIC["-"], lambda rows: [0] * len(rows), parts[0])


def _in(parts: Sequence[Evaluate]) -> Evaluate:
    first, *rest = parts

    def one(value: Value, *items: Value) -> Value:
        found = [fault if (fault := _first_fault(value, item)) else equal(value, item) for item in items]
        if True in (truth for truth in found if not isinstance(truth, Fault)):
            return True
        return _first_fault(*found) or (None if None in found else False)

    return lambda rows: [one(*values) for values in zip(first(rows), *(item(rows) for item in rest), strict=True)]


_PLAIN_CALLS: dict[str, Callable[[Sequence[Evaluate]], Evaluate]] = {
    "not": _not,
    "is null": _is_null,
    "negative": _negative,
    "in": _in,
}


def _function(node: Call, function: Function, parts: Sequence[Evaluate], condition: str) -> Evaluate:
    if not function.least <= len(parts) <= function.most:
        count = str(function.least) if function.least == function.most else f"{function.least} to {function.most}"
        values = "value" if count == "1" else "values"
        fail(condition, node.at, f"{node.name}() takes {count} {values}, not {len(parts)}")

    def one(*values: Value) -> Value:
        if fault := _first_fault(*values):
            return fault
        if function.null_is_null and any(value is None for value in values):
            return None
        return function.work(*values)

    return lambda rows: [one(*values) for values in zip(*(part(rows) for part in parts), strict=True)]


def _matching(match: Callable[[list[str]], list[bool]], name: str, part: Evaluate) -> Evaluate:
    def evaluate(rows: Rows) -> list[Value]:
        values = part(rows)
        found = iter(match([value for value in values if isinstance(value, str)]))
        return [
            next(found)
            if isinstance(value, str)
            else value
            if value is None or isinstance(value, Fault)
            else Fault(f"{name} takes text, not {told(value)}")
            for value in values
        ]

    return evaluate


def _like(pattern: str, name: str, condition: str, at: int) -> Callable[[list[str]], list[bool]]:
    """SQL's patterns: ``%`` stands for any text, ``_`` for one character. Takes time in proportion to the text.

    What stands between two ``%`` has a fixed length, so the first place where it fits is as good as any later one.
    """
    flags = re.DOTALL | (re.IGNORECASE if name == "ilike" else 0)
    first, *rest = [
        re.compile("".join("." if c == "_" else re.escape(c) for c in piece), flags) for piece in pattern.split("%")
    ]

    def one(text: str) -> bool:
        if not rest:
            return first.fullmatch(text) is not None
        start = first.match(text)
        if start is None:
            return False
        place = start.end()
        for piece in rest[:-1]:
            found = piece.search(text, place)
            if found is None:
                return False
            place = found.end()
        length = len(pattern) - pattern.rindex("%") - 1
        return len(text) - length >= place and rest[-1].fullmatch(text, len(text) - length) is not None

    return lambda texts: [one(text) for text in texts]


def _regex(pattern: str, name: str, condition: str, at: int) -> Callable[[list[str]], list[bool]]:
    """RE2's regular expressions, which no text can make hang; they fit anywhere in the text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    options = pc.MatchSubstringOptions(pattern)
    try:
        pc.match_substring_regex(pa.array([""]), options=options)
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        why = str(error).removeprefix("Invalid regular expression: ")
        fail(condition, at, f"not a regular expression: {why}", "RE2's syntax: no look-around, no back-references.")

    def match(texts: list[str]) -> list[bool]:
        try:
            array = pa.array(texts, pa.large_string())
        except UnicodeEncodeError:  # halves of characters
            array = pa.array([text.encode("utf-8", "replace").decode() for text in texts], pa.large_string())
        found: list[bool] = pc.match_substring_regex(array, options=options).to_pylist()
        return found

    return match
