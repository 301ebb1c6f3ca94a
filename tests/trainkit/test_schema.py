"""The JSON Schema of a config, with another library as the judge: right files pass, wrong keys and values do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.conftest import REPOSITORY
from trainkit.config import load_config
from trainkit.config_read import read_config
from trainkit.keys import key_table
from trainkit.schema import config_schema

VALIDATOR = jsonschema_rs.Draft202012Validator(config_schema())
FILES = sorted([*(REPOSITORY / "tests/trainkit/yamls").rglob("*.yaml"), *(REPOSITORY / "examples").glob("*.yaml")])


def faults(**keys: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(keys)]


def test_the_schema_is_a_schema() -> None:
    assert jsonschema_rs.meta.is_valid(config_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_example_passes(path: Path) -> None:
    VALIDATOR.validate(read_config(path).raw)


def test_a_resolved_config_passes() -> None:
    keys = load_config(
        {"model_name_or_path": "m", "lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 1}}
    )
    VALIDATOR.validate(keys.flat())


def test_every_key_is_there_with_its_meaning_and_a_default_that_passes() -> None:
    schema = config_schema()
    assert list(schema["properties"]) == list(key_table())
    for name, found in schema["properties"].items():
        assert found["description"], name
        assert faults(**{name: found["default"]}) == [], name


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({"cutof_len": 64}, "cutof_len"),
        ({"cutoff_len": "long"}, "integer"),
        ({"cutoff_len": 0}, "minimum"),
        ({"top_p": 1.5}, "maximum"),
        ({"stage": "sfft"}, "sft"),
        ({"do_train": "perhaps"}, "boolean"),
        ({"dataset": {"a": 1}}, "types"),
        ({"seed": None}, "integer"),
    ],
)
def test_what_is_wrong_is_found(keys: dict[str, Any], wrong: str) -> None:
    found = faults(**keys)
    assert len(found) == 1
    assert wrong in found[0]


@pytest.mark.parametrize(
    "keys",
    [
        {"enable_thinking": None},
        {"eval_strategy": False},
        {"eval_strategy": "no"},
        {"dataset": "a,b"},
        {"dataset": ["a", 2024]},
        {"dataset_dir": {"a": {"file_name": "a.json"}}},
        {"interleave_probs": [0.3, 0.7]},
        {"truncation": "turns"},
        {"max_samples": 1e3},
        {"fsdp": ["full_shard"]},
        {"lr_scheduler_kwargs": '{"power": 2}'},
    ],
)
def test_what_may_be_written_in_several_ways_passes_in_each(keys: dict[str, Any]) -> None:
    assert faults(**keys) == []


def test_refused_and_older_keys_are_struck_through_with_the_reason() -> None:
    properties = config_schema()["properties"]
    assert properties["fp16"]["deprecated"] is True
    assert properties["fp16"]["deprecationMessage"] == key_table()["fp16"]["why"]
    assert properties["fp8"]["deprecationMessage"].startswith("not yet: ")
    assert properties["dpo_beta"]["description"] == "now called pref_beta"
    assert "deprecated" not in properties["stage"]


def test_the_command_prints_it(trainkit: Callable[..., Any]) -> None:
    assert trainkit("schema").json == config_schema()
