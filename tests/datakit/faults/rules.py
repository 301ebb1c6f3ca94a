"""Rules at work: which of them a request meets, with the counters that "first", "after" and "every" need."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from tests.datakit.faults.asked import Asked
from tests.datakit.faults.scenario import Action, Rule, When

ANSWER = Action("answer")


def fingerprint(authorization: str) -> str:
    """A hash of an Authorization header, so that keys can be told apart without being kept."""
    return hashlib.sha256(authorization.encode()).hexdigest()[:12] if authorization else ""


class RuleBook:
    """The rules of a scenario, in their order."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        self._keys = [fingerprint(f"Bearer {rule.when.key}") if rule.when.key is not None else None for rule in rules]
        self._met = [0] * len(rules)

    def pick(self, asked: Asked) -> Action:
        """What is done with a request: by the first rule that fits, or the honest answer."""
        for number, rule in enumerate(self._rules):
            if self._fits(number, rule.when, asked):
                if len(rule.do) == 1:
                    return rule.do[0]
                return rule.do[int(asked.chance(f"draw {number}") * len(rule.do))]
        return ANSWER

    def bars(self, key: str) -> Action | None:
        """What keeps a key off all routes, not chat alone: a rule that says wrong_key or quota whatever is asked."""
        for rule, wanted in zip(self._rules, self._keys, strict=True):
            only_key = replace(rule.when, key=None) == When()
            if only_key and rule.do[0].name in ("wrong_key", "quota") and wanted in (None, key):
                return rule.do[0]
        return None

    def _fits(self, number: int, when: When, asked: Asked) -> bool:
        if when.asked is not None and asked.times != when.asked:
            return False
        if when.model is not None and asked.model != when.model:
            return False
        if when.key is not None and asked.key != self._keys[number]:
            return False
        if when.from_s is not None and asked.at_s < when.from_s:
            return False
        if when.until_s is not None and asked.at_s >= when.until_s:
            return False
        if when.max_tokens_below is not None and (asked.max_tokens or 0) >= when.max_tokens_below:
            return False
        if when.contains is not None and when.contains not in asked.text:
            return False
        if when.share is not None and asked.chance(f"rule {number}") >= when.share:
            return False
        self._met[number] += 1
        met = self._met[number]
        if when.first is not None and met > when.first:
            return False
        if when.after is not None and met <= when.after:
            return False
        return when.every is None or met % when.every == 0
