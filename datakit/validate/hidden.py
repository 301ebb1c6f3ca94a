"""Examples of faults, without the secrets and the personal data that may stand in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from datakit.validate.confirm import CONFIRM
from datakit.validate.faults import Fault
from datakit.validate.patterns import Pattern, chosen_patterns

HIDDEN = ("SC", "PD")  # families whose values are never shown


def hushed(faults: Sequence[Fault]) -> list[Fault]:
    """The faults of one row; what stands in a text with a secret in it is shown by none of them."""
    told = [fault.pointer for fault in faults if fault.code[:2] in HIDDEN]
    if not told:
        return [*faults]
    return [replace(fault, value="") if _is_around(fault.pointer, told) else fault for fault in faults]


def _is_around(place: str, told: Sequence[str]) -> bool:
    return any(pointer == place or pointer.startswith(f"{place}/") for pointer in told)


def as_example(fault: Fault) -> Fault:
    """The fault as it may be shown: what looks like a secret is left out, whether or not the run looked for any."""
    value = "" if _secrets_in(fault.value) else fault.value
    reason = fault.reason
    for secret in _secrets_in(reason):
        reason = reason.replace(secret, "…")
    return fault if (value, reason) == (fault.value, fault.reason) else replace(fault, value=value, reason=reason)


def _secrets_in(text: str) -> list[str]:
    found = []
    for pattern in _patterns() if text else ():
        confirm = CONFIRM[pattern.confirm] if pattern.confirm else None
        found += [match[0] for match in pattern.located.finditer(text) if confirm is None or confirm(match)]
    return found


@cache
def _patterns() -> tuple[Pattern, ...]:
    return tuple(pattern for pattern in chosen_patterns(None) if pattern.code[:2] in HIDDEN)
