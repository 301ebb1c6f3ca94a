"""All faults of the rows of a batch that show in the rows themselves: in their structure and in their texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datakit.validate.batch import Batch, Judge
from datakit.validate.batch_texts import Texts, texts_of_batch, texts_of_rows
from datakit.validate.codes import Level, all_codes
from datakit.validate.faults import SHOWN, Fault
from datakit.validate.hidden import HIDDEN, hushed
from datakit.validate.reading import faults_of_row
from datakit.validate.text import SURROGATE_CODE, Hit, TextRules
from registry.datasets import Layout

AROUND = 20  # characters shown before and after a place in a text
TEXT_FAMILIES = ("CH", "PL", "RF", "SC", "PD")
UNSEEN = ("CH001", "CH003", "CH005")  # what was found does not show, so it is named
MOST_SIGNS = 5


@dataclass(frozen=True)
class Finder:
    """Finds the faults that ``levels`` knows of.

    ``rules`` look at the texts (None: nothing does), ``halves`` at those of rows that are no lines of JSON where no
    other rules run: lines with half a character cannot be read.
    """

    judge: Judge
    levels: Mapping[str, Level]
    rules: TextRules | None
    halves: TextRules | None

    @classmethod
    def of(cls, layout: Layout, mapping: Mapping[str, str], levels: Mapping[str, Level], *, text: bool) -> Finder:
        """A finder for rows of ``layout``, whose parts ``mapping`` may reach within other columns."""
        judge = Judge(layout, tuple(column for column in mapping.values() if "." in column))
        codes = {code for code in levels if code[:2] in TEXT_FAMILIES}
        halves = TextRules({SURROGATE_CODE}) if SURROGATE_CODE in codes else None
        rules = TextRules(codes) if text and codes - {SURROGATE_CODE} else None
        return cls(judge, levels, rules, halves)

    def find(self, batch: Batch) -> None:
        """Complete ``batch.faults``, which hold those of the structure."""
        found = {index: self._known(faults) for index, faults in batch.faults.items()}
        batch.faults = {index: faults for index, faults in found.items() if faults}
        rules = self.rules or (self.halves if batch.screened is None else None)
        if rules is not None:
            for index, fault in self._in_texts(texts_of_batch(batch, self.judge), rules):
                batch.faults.setdefault(index, []).append(fault)
            batch.faults = {index: hushed(faults) for index, faults in batch.faults.items()}

    def find_again(self, changed: Mapping[int, Mapping[str, Any]]) -> dict[int, list[Fault]]:
        """The faults of rows that were changed, by index; their ids are not looked at again."""
        found = {index: self.judge.faults(data) + faults_of_row(data) for index, data in changed.items()}
        rules = self.rules or self.halves
        if rules is not None:
            texts = Texts()
            texts_of_rows(texts, changed, self.judge)
            for index, fault in self._in_texts(texts, rules):
                found[index].append(fault)
        return {index: hushed(self._known(faults)) for index, faults in found.items()}

    def _known(self, faults: list[Fault]) -> list[Fault]:
        return [fault for fault in faults if fault.code in self.levels]

    def _in_texts(self, texts: Texts, rules: TextRules) -> Iterator[tuple[int, Fault]]:
        for hit in rules.scan(texts.texts, texts.answers):
            index, place = texts.place(hit.index)
            yield index, _fault_of(hit, place, texts.texts[hit.index])


def _fault_of(hit: Hit, place: str, text: str) -> Fault:
    code = all_codes()[hit.code]
    value = "" if hit.code[:2] in HIDDEN else text[max(0, hit.start - AROUND) : hit.end + AROUND][:SHOWN]
    reason = code.title
    if hit.code in UNSEEN:
        reason += ": " + ", ".join(
            f"U+{ord(sign):04X}" for sign in dict.fromkeys(text[hit.start : hit.end][:MOST_SIGNS])
        )
    fixable = code.fixable and (hit.start == 0 or hit.code == "CH004")
    return Fault(hit.code, place, reason, value, fixable, (hit.start, hit.end))
