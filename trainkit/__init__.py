"""The engine: a YAML in, a model out; then chat and export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainkit.run import RunResult


def run(config: str | Path | Mapping[str, Any], *words: str, fresh: bool = False, quiet: bool = False) -> RunResult:
    """Train: ``trainkit.run("sft.yaml", "learning_rate=1e-5")`` or ``trainkit.run({"stage": "sft", …})``.

    ``fresh`` starts over even where an unfinished run could go on; ``quiet`` shows no progress. Returns the folder, the
    numbers and the losses. Raises ``registry.errors.Faults`` with all that is wrong with the config, before torch loads.
    """
    from trainkit.start import start

    return start(config, words, fresh=fresh, quiet=quiet)
