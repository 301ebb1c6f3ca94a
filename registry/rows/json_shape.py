"""Which shape a file of JSON has: lines, one array, or objects one after another."""

from __future__ import annotations

import enum
import json
import logging

import orjson

log = logging.getLogger("tunekit")

_DECODER = json.JSONDecoder()


class Shape(enum.Enum):
    """How rows lie in a file of JSON."""

    LINES = enum.auto()
    ARRAY = enum.auto()
    OBJECTS = enum.auto()


def shape_of(file: str, head: bytes, named: str) -> Shape:
    """The shape by the first bytes of a file; where those differ from its name (``json`` or ``jsonl``) it is logged.

    Lines are preferred wherever they can be: a fault in them costs one row, in the others the whole file.
    """
    first = head.lstrip()[:1]
    if first == b"[":
        if named == "jsonl" and _is_array_of_a_line(head):
            return Shape.LINES
        if named == "jsonl":
            log.warning("%s is named as JSON lines but holds one JSON array; it is read as an array", file)
        return Shape.ARRAY
    if first != b"{":
        return Shape.LINES  # whatever it is, it is told line by line
    if _spans_lines(head.lstrip(), named):
        if named == "jsonl":
            log.warning("%s is named as JSON lines but its objects span lines; they are read one by one", file)
        return Shape.OBJECTS
    if named == "json":
        log.warning("%s is named .json but holds JSON lines; it is read line by line", file)
    return Shape.LINES


def _is_array_of_a_line(head: bytes) -> bool:
    """Whether the first line is an array of its own among other lines, which makes it a bad row."""
    line, _, rest = head.lstrip().partition(b"\n")
    return bool(rest.strip()) and isinstance(_value(line), list)


def _spans_lines(head: bytes, named: str) -> bool:
    """Whether rows are not one a line: an object over several lines, or several in one."""
    first, line_ended, rest = head.partition(b"\n")
    if isinstance(_value(first), dict):
        return False
    if any(line.startswith(b"{") and isinstance(_value(line), dict) for line in rest.split(b"\n")):
        return False  # the first line is broken, and a later one is whole
    if first.strip() == b"{" or _is_followed(first):
        return True
    return named == "json" and bool(line_ended)


def _is_followed(line: bytes) -> bool:
    """Whether a line goes on after a whole object with another one."""
    try:
        text = line.decode("utf-8", "surrogateescape")
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and text[end:].lstrip().startswith("{")


def _value(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
