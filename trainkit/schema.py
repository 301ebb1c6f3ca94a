"""The JSON Schema of a run's YAML, made from the table of keys, so that editors complete and check it."""

from __future__ import annotations

from typing import Any

from trainkit.keys import STRATEGY_KEYS, key_table

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXT = {"type": ["string", "number"]}  # a name that is all digits is a number to YAML
_KINDS: dict[str, dict[str, Any]] = {
    "str": _TEXT,
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "int|float": {"type": "number"},
    "bool": {"type": "boolean"},
    "bool|str": {"type": ["boolean", "string"]},
    "bool|words": {"type": ["boolean", "string", "array"], "items": {"type": "string"}},
    "list[str]": {"type": ["string", "number", "array"], "items": _TEXT},
    "list[float]": {"type": ["string", "number", "array"], "items": {"type": "number"}},
    "dict": {"type": ["object", "string"]},
    "str|dict": {"type": ["string", "object"]},
}


def config_schema() -> dict[str, Any]:
    """The schema (draft 2020-12): every key with its type, choices, range, default and meaning.

    Refused keys are ``deprecated``, with the reason; they may stand there, as they may at their default.
    """
    return {
        "$schema": DRAFT,
        "title": "Run config of trainkit",
        "description": "LLaMA-Factory's keys, those of transformers, and trainkit's own.",
        "type": "object",
        "properties": {name: _property(name) for name in key_table()},
        "additionalProperties": False,
    }


def _property(name: str) -> dict[str, Any]:
    spec = key_table()[name]
    if spec["status"] == "renamed":
        reason = f"now called {spec['to']}"
        return _property(spec["to"]) | {"description": reason, "deprecated": True, "deprecationMessage": reason}
    schema = dict(_KINDS[spec["type"]])
    optional = spec["default"] is None or bool(spec.get("null_ok"))
    if "choices" in spec:
        off = [False] if name in STRATEGY_KEYS else []  # what YAML 1.1 makes of no
        schema = {"enum": [*spec["choices"], *spec.get("aliases", {}), *off, *([None] if optional else [])]}
    elif spec["status"] == "refused" or optional:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        schema["type"] = [*kinds, "null"]
    schema |= {word: spec[key] for word, key in (("minimum", "min"), ("maximum", "max")) if key in spec}
    schema["default"] = spec["default"]
    if spec["status"] == "refused":
        del schema["type"]  # any spelling of the default is harmless
        coming = "not yet: " if spec.get("coming") else ""
        reason = f"{coming}{spec['why']}"
        return schema | {
            "description": f"{spec['help']} (refused: {reason})",
            "deprecated": True,
            "deprecationMessage": reason,
        }
    without = f" (no effect here: {spec['why']})" if spec["status"] == "accepted" else ""
    return schema | {"description": spec["help"] + without}
