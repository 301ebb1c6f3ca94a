"""Options are checked by themselves, before anything is read, and told in the manifest without what is secret."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from datakit.augment.budget import Limits
from datakit.augment.options import AugmentOptions, similarity
from registry.errors import UsageError


def told(**options) -> str:
    with pytest.raises(UsageError) as refused:
        AugmentOptions(**{"recipe": "expand", "model": "m", **options})
    return str(refused.value)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"model": ""}, "--model: no model is named"),
        ({"language": "de"}, '--language: recipes are not written in "de"'),
        ({"to_format": "alpca"}, 'Did you mean "alpaca"? Known: auto, alpaca, sharegpt, openai.'),
        ({"from_format": "jsonl"}, '--from: unknown format "jsonl"'),
        ({"structured": "yaml"}, "One of auto, json_schema, json_object, off."),
        ({"chunk_tokens": 100, "chunk_overlap": 100}, "pieces of 100 tokens cannot overlap by 100"),
        ({"chunk_overlap": -1}, "cannot overlap by -1"),
        ({"near": 0.0}, "--near: 0 is no similarity"),
        ({"near": 1.5}, "--near: 1.5 is no similarity"),
        ({"near": float("nan")}, "--near: nan is no similarity"),
    ],
)
def test_what_cannot_be_done_is_told(options, what):
    assert what in told(**options)


def test_a_recipe_of_ones_own_may_be_written_in_any_language():
    assert AugmentOptions("mine.md", "m", language="de").language == "de"


def test_only_what_is_given_goes_into_requests():
    assert AugmentOptions("expand", "m").sampling == {}
    assert AugmentOptions("expand", "m", temperature=0.0, max_tokens=5).sampling == {
        "temperature": 0.0,
        "max_tokens": 5,
    }


def test_the_manifest_holds_every_option_as_json():
    options = AugmentOptions(
        "expand", "m", base_urls=("http://a/v1",), values={"tone": "dry"}, store=Path("a.sqlite"), max_tokens=9,
        limits=Limits(requests=5), tokenizer=Path("t"),
    )  # fmt: skip
    found = orjson.loads(orjson.dumps(options.as_json()))
    assert found["values"] == {"tone": "dry"}
    assert (found["store"], found["tokenizer"], found["max_tokens"]) == ("a.sqlite", "t", 9)
    assert (found["budget_requests"], found["budget_cost"]) == (5, None)
    assert found["base_urls"] == ["http://a/v1"]
    assert "limits" not in found


def test_a_similarity_is_a_number_or_off():
    assert similarity("0.9") == 0.9
    assert similarity("off") is None
    with pytest.raises(UsageError, match='"much" is no similarity'):
        similarity("much")
