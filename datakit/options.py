"""Options that come as NAME=VALUE, any number of times."""

from __future__ import annotations

from collections.abc import Sequence

from registry.errors import UsageError


def pairs(given: Sequence[str] | None, flag: str) -> dict[str, str]:
    """``["a=b", "c=d=e"]`` as ``{"a": "b", "c": "d=e"}``; a value may be empty, a name may not.

    Raises ``UsageError`` naming ``flag`` for what is not NAME=VALUE, and for a name that is given two values.
    """
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f'"{text}" is not NAME=VALUE', where=flag, mend=f"Write it as {flag} name=value.")
        if found.get(name, value) != value:
            raise UsageError(
                f'"{name}" is given twice: {found[name]} and {value}', where=flag, mend="Keep one of them."
            )
        found[name] = value
    return found
