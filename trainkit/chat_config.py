"""What `trainkit chat` talks to: a config file, a model folder, or an adapter folder with the base it names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from registry.errors import UsageError
from trainkit.config import RunConfig, load_config
from trainkit.hub import adapters_below
from trainkit.preflight import check_places


def chat_config(target: Path, overrides: Sequence[str], *, greedy: bool) -> RunConfig:
    """The resolved config for chatting. Raises ``UsageError`` for a target that is neither file nor model folder."""
    more = ["do_sample=false"] if greedy else []
    if target.is_dir():
        adapter = target / "adapter_config.json"
        raw: dict[str, object] = {"model_name_or_path": str(target)}
        if adapter.is_file():
            try:
                base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
            except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
                raise UsageError("adapter_config.json is not a JSON object", where=str(target)) from None
            if not isinstance(base, str) or not base:
                raise UsageError("the adapter does not name its base model", where=str(target))
            raw = {"model_name_or_path": base, "adapter_name_or_path": [*adapters_below(target), str(target)]}
        config = load_config(raw, [*overrides, *more])
    elif target.suffix in (".yaml", ".yml", ".json"):
        config = load_config(target, [*overrides, *more])
    else:
        raise UsageError("no such model folder or config", where=str(target))
    check_places(config)
    return config
