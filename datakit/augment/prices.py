"""What models cost, from a data file that users may override."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from registry.errors import Faults, UsageError

# gpt-4o-mini-2024-07-18 costs what gpt-4o-mini does; gpt-4o-audio-preview is another model.
_DATED = re.compile(r"-(?:20\d\d-?\d\d-?\d\d|latest)$")
BUILT_IN = Path(__file__).with_name("prices.yaml")


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens of prompt and of answer, and when that was looked up."""

    prompt: float
    completion: float
    as_of: str = ""

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


def price_of(model: str, *, given: str | None = None, file: str | Path | None = None) -> Price | None:
    """The price of ``model``: as ``given`` (``IN,OUT``), else by ``file``, else as built in; None where nobody knows.

    Raises ``UsageError`` for a price or a file that cannot be read.
    """
    if given is not None:
        return _given(given)
    for table in ([_read(Path(file))] if file is not None else []) + [_read(BUILT_IN)]:
        names = {name.casefold(): name for name in table["models"]}
        name = names.get(_DATED.sub("", model.casefold())) or names.get(model.casefold())
        if name is not None:
            prompt, completion = table["models"][name]
            return Price(float(prompt), float(completion), str(table.get("as_of") or ""))
    return None


def _given(text: str) -> Price:
    try:
        prompt, completion = (float(part) for part in text.split(","))
        if not (0 <= prompt < float("inf") and 0 <= completion < float("inf")):
            raise ValueError
    except ValueError:
        raise UsageError(
            f'"{text}" is no price', where="--price", mend="Two numbers for a million tokens: --price 0.15,0.60"
        ) from None
    return Price(prompt, completion)


@cache
def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        table = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot be read: {error}", where=f"--prices {path}") from None
    models = table.get("models") if isinstance(table, dict) else None
    if not isinstance(models, dict):
        raise UsageError("no prices are in it", where=f"--prices {path}", mend="models: {NAME: [IN, OUT]}")
    bad = [
        f"{name}: {value!r} is not [IN, OUT]"
        for name, value in models.items()
        if not (
            isinstance(value, list) and len(value) == 2 and all(isinstance(x, int | float) and x >= 0 for x in value)
        )
    ]
    if bad:
        raise Faults(f"--prices {path}", bad)
    return {**table, "models": {str(name): value for name, value in models.items()}}
