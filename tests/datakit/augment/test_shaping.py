"""Requests are shaped by recipe, command line and what a server does not take, which is learnt and kept."""

from __future__ import annotations

from typing import Any

import pytest

from datakit.augment.failures import CallFailed, Kind
from datakit.augment.outputs import OUTPUTS
from datakit.augment.shaping import Shaping, refused_parameter
from datakit.recipes.recipe import Prompt, load_recipe

MESSAGES = (("user", "Hi?"),)
SCHEMA = OUTPUTS["texts"].schema
PROMPT = load_recipe("paraphrase", "en").prompt  # temperature 0.9


def shaping(**options: Any) -> Shaping:
    return Shaping("https://a.example/v1", "m1", **options)


def refusal(message: str) -> CallFailed:
    return CallFailed(Kind.REFUSED, message, status=400)


def test_a_request_holds_all_that_shapes_the_answer():
    request = shaping().request(PROMPT, MESSAGES, SCHEMA, sample=3)
    assert (request.family, request.model, request.messages) == ("https://a.example/v1", "m1", MESSAGES)
    assert (request.sampling, request.recipe, request.sample) == ({"temperature": 0.9}, PROMPT.digest, 3)
    assert request.schema == {
        "type": "json_schema",
        "json_schema": {"name": "texts", "strict": True, "schema": SCHEMA},
    }


def test_the_command_line_counts_more_than_the_recipe_and_a_call_may_bring_its_own():
    assert shaping(sampling={"temperature": 0.1, "top_p": 0.5}).request(PROMPT, MESSAGES, None).sampling == {
        "temperature": 0.1, "top_p": 0.5
    }  # fmt: skip
    assert shaping().request(PROMPT, MESSAGES, None, sampling={"temperature": None}).sampling == {}


def test_plain_text_is_asked_for_without_a_form():
    assert shaping().request(PROMPT, MESSAGES, None).schema is None


@pytest.mark.parametrize(
    ("mode", "form"), [("json_schema", "json_schema"), ("json_object", "json_object"), ("off", None)]
)
def test_the_form_that_is_asked_for_can_be_said(mode: str, form: str | None):
    schema = shaping(structured=mode).request(PROMPT, MESSAGES, SCHEMA).schema
    assert (schema and schema["type"]) == form


def test_more_room_is_twice_as_much_where_there_is_a_limit_of_ours():
    one = shaping(sampling={"max_tokens": 100})
    request = one.request(PROMPT, MESSAGES, None, more_room=True)
    assert request.sampling["max_tokens"] == 200
    assert one.has_room(request)
    assert not shaping().has_room(shaping().request(PROMPT, MESSAGES, None, more_room=True))


def test_a_form_that_is_refused_is_lowered_step_by_step_for_all_further_requests():
    one = shaping()
    request = one.request(PROMPT, MESSAGES, SCHEMA)
    refused = refusal("response_format is not supported")
    assert refused_parameter(request, refused) == "response_format"
    assert one.adapts(request, refused)
    request = one.request(PROMPT, MESSAGES, SCHEMA)
    assert request.schema == {"type": "json_object"}
    assert one.adapts(request, refused)
    request = one.request(PROMPT, MESSAGES, SCHEMA)
    assert request.schema is None
    assert not one.adapts(request, refused)


def test_a_parameter_that_is_refused_is_left_out_and_max_tokens_goes_by_its_new_name():
    one = shaping(sampling={"max_tokens": 50})
    request = one.request(PROMPT, MESSAGES, None)
    assert one.adapts(request, refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."))
    request = one.request(PROMPT, MESSAGES, None)
    assert request.sampling == {"temperature": 0.9, "max_completion_tokens": 50}
    assert one.has_room(request)
    assert one.request(PROMPT, MESSAGES, None, more_room=True).sampling["max_completion_tokens"] == 100
    assert one.adapts(request, refusal("'temperature' does not support 0.9: only the default (1) value is supported"))
    assert one.request(PROMPT, MESSAGES, None).sampling == {"max_completion_tokens": 50}


def test_a_refusal_of_the_request_itself_changes_nothing():
    one = shaping()
    request = one.request(PROMPT, MESSAGES, SCHEMA)
    assert not one.adapts(request, refusal("This prompt cannot be processed."))
    assert one.request(PROMPT, MESSAGES, SCHEMA) == request


def test_what_was_learnt_serves_the_next_run_at_the_same_server_and_model():
    one = shaping()
    key = one.remembered()
    one.adapts(one.request(PROMPT, MESSAGES, SCHEMA), refusal("json_schema is not supported"))
    one.left_out.add("top_p")
    kept = one.learnt(created=1.0)
    assert kept.key == key
    other = shaping()
    other.remembered()
    other.recall(kept)
    assert other.request(PROMPT, MESSAGES, SCHEMA) == one.request(PROMPT, MESSAGES, SCHEMA)
    other.recall(None)
    assert other.structured == "json_object"
    assert Shaping("https://b.example/v1", "m1").remembered() != key
    assert Shaping("https://a.example/v1", "m2").remembered() != key
    assert shaping(structured="off").remembered() != key


def test_the_ways_in_which_questions_were_answered_before_are_remembered():
    one = shaping(sampling={"top_p": 0.5})
    first = one.request(PROMPT, MESSAGES, SCHEMA)
    assert list(one.earlier(PROMPT, MESSAGES, SCHEMA)) == []
    one.adapts(first, refusal("json_schema is not supported"))  # nothing was answered so
    assert list(one.earlier(PROMPT, MESSAGES, SCHEMA)) == []
    second = one.request(PROMPT, MESSAGES, SCHEMA)
    one.answered = True
    one.adapts(second, refusal("`top_p` is not supported by this model"))
    assert list(one.earlier(PROMPT, MESSAGES, SCHEMA)) == [second]
    other = shaping(sampling={"top_p": 0.5})
    other.remembered()
    other.recall(one.learnt(created=1.0))
    assert list(other.earlier(PROMPT, MESSAGES, SCHEMA)) == [second]
    assert other.request(PROMPT, MESSAGES, SCHEMA) == one.request(PROMPT, MESSAGES, SCHEMA)


def test_the_hash_of_a_recipe_tells_prompts_apart():
    other: Prompt = load_recipe("paraphrase", "zh").prompt
    assert shaping().request(PROMPT, MESSAGES, None).key != shaping().request(other, MESSAGES, None).key
