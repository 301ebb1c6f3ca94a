"""Filters that hear what validate finds in rows as they will be written: errors, placeholders and refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from datakit.augment.filters.candidate import Candidate
from datakit.augment.filters.parts import system_of
from datakit.augment.filters.plan import Rules
from datakit.layout import resolve_layout
from datakit.validate.batch import batch_of_rows
from datakit.validate.codes import Level, all_codes, levels_of
from datakit.validate.faults import Fault, steps_of
from datakit.validate.find import Finder
from datakit.validate.text import TextRules
from registry.datasets import Layout
from registry.formats import detect
from registry.rows import Row

PLACEHOLDERS, REFUSALS = "PL", "RF"  # families of codes
_NOT_ABOUT_ROWS = ("RD007",)  # ids are given when rows are written
# What models leave for somebody to fill in: [Your Name], <insert date here>, 【您的姓名】. Links in Markdown are none.
BLANKS = re.compile(
    r"\[(?:your|insert|enter|add|fill in|company|customer|recipient|sender|client|employee)\b[^\]\n]{0,40}\](?!\()"
    r"|\[(?:name|date|address|email|phone(?: number)?|signature|placeholder)\](?!\()"
    r"|<(?:your|insert|enter)\b[^>\n]{0,40}>"
    r"|[\[【](?:您的|你的|请填|请输入|填写|插入|姓名|公司名|客户名|日期|地址|电话)[^\]】\n]{0,20}[\]】](?!\()",
    re.IGNORECASE,
)


class Checker:
    """Finds the faults of rows, many at once."""

    def __init__(self, layout: Layout | None = None) -> None:
        self._layout = layout
        self._finders: dict[Layout, Finder] = {}

    def check(self, rows: Sequence[Candidate]) -> None:
        """Put the faults of each row into it."""
        by_layout: dict[Layout, list[Candidate]] = {}
        for row in rows:
            layout = self._layout or detect(row.data) or resolve_layout("auto", {}, [_as_row(row)])
            assert layout is not None
            by_layout.setdefault(layout, []).append(row)
        for layout, those in by_layout.items():
            batch = batch_of_rows([_as_row(row) for row in those], self._finder(layout).judge)
            self._finder(layout).find(batch)
            for index, faults in batch.faults.items():
                those[index].faults = faults

    def _finder(self, layout: Layout) -> Finder:
        if layout not in self._finders:
            self._finders[layout] = Finder.of(layout, {}, _levels(), text=True)
        return self._finders[layout]


def invalid(row: Candidate, rules: Rules) -> str | None:
    """An error of validate's, by its code."""
    levels = _levels()
    fault = next((f for f in row.faults if levels[f.code] == "error"), None)
    return None if fault is None else f"{fault.code}: {all_codes()[fault.code].title}"


def placeholder(row: Candidate, rules: Rules) -> str | None:
    """A placeholder that no seed has: where a seed is a template, a row made of it may be one."""
    known = [part.text for part in row.seed_parts] + [system_of(seed.record) for seed in row.seeds]
    for fault, found in _found(row, PLACEHOLDERS):
        if not any(found in text for text in known):
            return f"{fault.code}: {all_codes()[fault.code].title}"
    for part in row.new:
        for match in BLANKS.finditer(part.text):
            if not any(match[0] in text for text in known):
                return "a blank for somebody to fill in"
    return None


def refusal(row: Candidate, rules: Rules) -> str | None:
    """An answer that refuses, where the answers of its seeds do not."""
    codes = {fault.code for fault in row.faults if fault.code.startswith(REFUSALS)}
    codes -= rules.codes_let_pass
    if codes:
        codes -= _refusals_in(tuple(part.text for part in row.seed_parts if part.is_answer))
    code = min(codes, default=None)
    return None if code is None else f"{code}: {all_codes()[code].title}"


def _found(row: Candidate, family: str) -> Iterator[tuple[Fault, str]]:
    """The faults of a family, each with what stands there."""
    for fault in row.faults:
        if fault.code.startswith(family) and fault.span is not None:
            text = _at(row.data, fault.pointer)
            yield fault, text[slice(*fault.span)] if isinstance(text, str) else ""


def _at(data: Any, pointer: str) -> Any:
    for step in steps_of(pointer):
        data = data[int(step)] if isinstance(data, Sequence) and not isinstance(data, str) else data[step]
    return data


@lru_cache(256)
def _refusals_in(answers: tuple[str, ...]) -> frozenset[str]:
    """The codes of refusals that answers hold."""
    rules = _refusal_rules()
    return frozenset(hit.code for hit in rules.scan(answers, [True] * len(answers)) if hit.code.startswith(REFUSALS))


@lru_cache(1)
def _refusal_rules() -> TextRules:
    return TextRules({code for code in _levels() if code.startswith(REFUSALS)})


@lru_cache(1)
def _levels() -> Mapping[str, Level]:
    return {code: level for code, level in levels_of().items() if code not in _NOT_ABOUT_ROWS}


def _as_row(row: Candidate) -> Row:
    return Row("", row.number, row.data)
