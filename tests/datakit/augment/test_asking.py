"""One call until there is a value: more room once, corrected once, shaped anew where a server is choosy, then given up."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from datakit.augment.answer import Stored
from datakit.augment.asking import asking
from datakit.augment.failures import CallFailed, Kind
from datakit.augment.request import Request
from datakit.augment.rollout import Call, Reply
from datakit.augment.shaping import Shaping
from datakit.recipes.recipe import load_recipe

PROMPT = load_recipe("paraphrase", "en").prompt
SEED = {
    "system": "", "tools": "", "turns": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}],
    "question": "Q?", "answer": "A.", "text": "", "is_single": True,
}  # fmt: skip
GOOD = '{"texts": ["one", "two"]}'
NO_SCHEMA = CallFailed(Kind.REFUSED, "response_format is not supported", status=400)


def call() -> Call:
    return Call(PROMPT, {**PROMPT.inputs, "n": 2, "already": (), "seed": SEED}, "texts", 0, PROMPT.sampling)


def body(text: str, finish: str = "stop") -> bytes:
    return orjson.dumps({"choices": [{"message": {"content": text}, "finish_reason": finish}], "model": "m-2024"})


def ask(
    *answers: str | tuple[str, str] | CallFailed, shaping: Shaping | None = None
) -> tuple[Any, list[Request], list[str]]:
    """The reply (or the failure), the requests that were made, and the notes."""
    notes: list[str] = []
    requests: list[Request] = []
    going = asking(call(), shaping or Shaping("f", "m1"), notes.append)
    left = iter(answers)
    try:
        request = next(going)
        while True:
            requests.append(request)
            said = next(left)
            if isinstance(said, CallFailed):
                request = going.throw(said)
                continue
            text, finish = said if isinstance(said, tuple) else (said, "stop")
            request = going.send(
                Stored(request.key, request.spelled, body(text, finish), "openai", "m1", finish=finish)
            )
    except StopIteration as end:
        assert next(left, None) is None, "not all answers were asked for"
        return end.value, requests, notes
    except CallFailed as failure:
        return failure, requests, notes


def test_a_good_answer_is_read_and_its_request_told():
    reply, (request,), notes = ask(GOOD)
    assert isinstance(reply, Reply)
    assert (reply.value, reply.key, reply.answer.model, notes) == (["one", "two"], request.key, "m-2024", [])
    assert request.schema is not None


def test_an_untidy_answer_is_mended_without_asking_again():
    reply, requests, notes = ask("Here you are:\n```json\n{'texts': ['one', 'two',]}\n```")
    assert (reply.value, len(requests), notes) == (["one", "two"], 1, ["mended"])


def test_an_answer_that_cannot_be_read_goes_back_once_with_what_is_wrong_with_it():
    reply, (first, second), notes = ask("I would rather not say.", GOOD)
    assert (reply.value, notes) == (["one", "two"], ["corrected"])
    assert reply.key == second.key != first.key
    assert second.messages[: len(first.messages)] == first.messages
    assert second.messages[-2] == ("assistant", "I would rather not say.")
    assert "Your answer cannot be used" in second.messages[-1][1]


def test_and_is_given_up_when_it_comes_no_better():
    failure, requests, notes = ask("No.", "Still no.")
    assert (failure.kind, len(requests), notes) == (Kind.UNPARSABLE, 2, ["corrected"])
    assert failure.reason.startswith("asked for twice, and still: ")
    assert failure.code == requests[1].key
    assert failure.body == b"Still no."


def test_an_answer_cut_by_our_own_limit_gets_more_room_once():
    shaping = Shaping("f", "m1", {"max_tokens": 10})
    reply, requests, notes = ask(('{"texts": ["on', "length"), GOOD, shaping=shaping)
    assert [request.sampling["max_tokens"] for request in requests] == [10, 20]
    assert (reply.value, notes) == (["one", "two"], ["more room"])


def test_the_longer_answer_counts_although_it_is_cut_too_and_is_marked():
    shaping = Shaping("f", "m1", {"max_tokens": 10})
    reply, _, notes = ask(('{"texts": ["on', "length"), ('{"texts": ["one", "tw', "length"), shaping=shaping)
    assert (reply.value, reply.answer.finish) == (["one"], "length")
    assert notes == ["more room", "cut off", "mended"]


def test_an_answer_cut_by_the_server_is_read_as_far_as_it_goes():
    reply, requests, notes = ask(('{"texts": ["one", "tw', "length"))
    assert (reply.value, len(requests), notes) == (["one"], 1, ["cut off", "mended"])


def test_a_form_that_the_server_refuses_is_left_out_and_learnt():
    shaping = Shaping("f", "m1")
    reply, requests, _ = ask(NO_SCHEMA, NO_SCHEMA, GOOD, shaping=shaping)
    assert [request.schema and request.schema["type"] for request in requests] == ["json_schema", "json_object", None]
    assert (reply.value, shaping.structured) == (["one", "two"], "off")


def test_what_another_call_learnt_meanwhile_serves_this_one():
    shaping = Shaping("f", "m1")
    going = asking(call(), shaping, lambda what: None)
    first = next(going)
    assert shaping.adapts(first, NO_SCHEMA)
    again = going.throw(NO_SCHEMA)
    assert again.schema == {"type": "json_object"}
    assert shaping.structured == "json_object"  # one step, not two


def test_an_answer_in_a_form_of_before_is_taken_from_the_store_and_not_asked_for_anew():
    shaping = Shaping("f", "m1")
    (old,) = ask(GOOD, shaping=shaping)[1]
    assert shaping.adapts(old, NO_SCHEMA)
    going = asking(call(), shaping, lambda what: None, lambda request: request.key == old.key)
    assert next(going).key == old.key
    going = asking(call(), shaping, lambda what: None, lambda request: False)
    assert next(going).schema == {"type": "json_object"}


@pytest.mark.parametrize("kind", [Kind.REFUSED, Kind.SERVER, Kind.STOPPED, Kind.QUOTA])
def test_any_other_failure_is_passed_on(kind: Kind):
    failure = CallFailed(kind, "no", status=400)
    assert ask(failure)[0] is failure


def test_a_failure_that_comes_when_parameters_changed_meanwhile_is_passed_on_too():
    shaping = Shaping("f", "m1")
    going = asking(call(), shaping, lambda what: None)
    shaping.adapts(next(going), NO_SCHEMA)
    with pytest.raises(CallFailed, match="too busy"):
        going.throw(CallFailed(Kind.SERVER, "too busy"))


def test_a_corrected_answer_may_be_cut_and_have_its_own_room():
    shaping = Shaping("f", "m1", {"max_tokens": 10})
    failure, requests, notes = ask(("Well,", "length"), ("Well, then", "length"), "No.", shaping=shaping)
    assert [request.sampling["max_tokens"] for request in requests] == [10, 20, 20]
    assert failure.kind is Kind.UNPARSABLE
    assert notes == ["more room", "cut off", "corrected"]
