"""What becomes of calls: through which account they go, how often, and when their outcome comes out."""

import threading
import time

import orjson
import pytest

from datakit.augment.accounts import Account
from datakit.augment.answer import Stored
from datakit.augment.breaker import Breaker
from datakit.augment.budget import Budget, Limits
from datakit.augment.dispatch import Dispatch, take
from datakit.augment.failures import CallFailed, Kind
from datakit.augment.providers import Sent, read_body
from datakit.augment.request import Request
from registry.errors import StoppedError

BODY = orjson.dumps(
    {
        "model": "m-1",
        "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    }
)


class Script:
    """A provider that does, for each question, what it is told to, one thing after the other; then it answers."""

    def __init__(self, **told):
        self.told = {text: list(steps) for text, steps in told.items()}
        self.asked = []
        self._lock = threading.Lock()

    def send(self, request, timeout_s):
        text = request.messages[0][1]
        with self._lock:
            self.asked.append(text)
            step = self.told[text].pop(0) if self.told.get(text) else None
        if isinstance(step, BaseException):
            raise step
        return Sent(BODY, {}, read_body(BODY))


class Memory:
    """A store that keeps answers at once, or not before it is told to."""

    def __init__(self, error=None, wait=None):
        self.kept: list[Stored] = []
        self._error, self._wait = error, wait

    def put(self, stored, done):
        if self._wait is not None:
            threading.Thread(target=lambda: (self._wait.wait(5), done(None))).start()
            return
        if self._error is None:
            self.kept.append(stored)
        done(self._error)


def ask(text, **more):
    return Request("f", "m", (("user", text),), **more)


def started(provider, store=None, *, accounts=1, limits=None, workers=4, **options):
    providers = provider if isinstance(provider, list) else [provider] * accounts
    named = [Account(f"http://{n}/v1", f"key-{n}", f"account {n}") for n in range(len(providers))]
    budget = Budget(limits or Limits(), None, time.monotonic())
    return Dispatch(
        named, lambda account: providers[named.index(account)], store or Memory(), budget, provider="openai",
        workers=workers, **options,
    )  # fmt: skip


def outcomes(dispatch, count):
    found = []
    until = time.monotonic() + 20
    while len(found) < count and time.monotonic() < until:
        found += take(dispatch.outcomes, 0.1)
    assert len(found) == count
    return {one.request.messages[0][1]: one for one in found}


def test_an_answer_comes_out_with_its_figures():
    dispatch = started(Script())
    dispatch.submit(ask("a"))
    stored = outcomes(dispatch, 1)["a"].stored
    assert (stored.key, stored.body, stored.model) == (ask("a").key, BODY, "m-1")
    assert (stored.prompt_tokens, stored.completion_tokens, stored.attempts) == (7, 2, 1)
    assert (dispatch.figures.answered, dispatch.budget.tokens) == (1, 9)
    dispatch.close()


def test_nothing_comes_out_before_the_store_has_it():
    gate = threading.Event()
    dispatch = started(Script(), Memory(wait=gate))
    dispatch.submit(ask("a"))
    assert take(dispatch.outcomes, 0.3) == []
    gate.set()
    assert outcomes(dispatch, 1)["a"].stored is not None
    dispatch.close()


def test_what_passes_is_tried_again_and_what_does_not_is_given_up():
    fault = CallFailed(Kind.SERVER, "busy", status=503)
    script = Script(a=[fault, fault], b=[fault] * 9)
    dispatch = started(script, attempts=3)
    for text in "ab":
        dispatch.submit(ask(text))
    found = outcomes(dispatch, 2)
    assert found["a"].stored.attempts == 3
    assert found["b"].failure.kind is Kind.SERVER
    assert (script.asked.count("a"), script.asked.count("b")) == (3, 3)
    dispatch.close()


def test_a_rate_limit_costs_no_attempt():
    limited = CallFailed(Kind.RATE_LIMIT, "slow down", status=429, retry_after=0.01)
    script = Script(a=[limited] * 5)
    dispatch = started(script, attempts=1)
    dispatch.submit(ask("a"))
    assert outcomes(dispatch, 1)["a"].stored.attempts == 1
    assert (dispatch.figures.rate_limits, dispatch.figures.sent, dispatch.budget.requests) == (5, 1, 1)
    dispatch.close()


def test_a_refusal_for_good_is_asked_once_and_kept():
    store = Memory()
    script = Script(a=[CallFailed(Kind.REFUSED, "no", code="content_filter", status=400, body=b'{"error": "no"}')])
    dispatch = started(script, store)
    dispatch.submit(ask("a"))
    found = outcomes(dispatch, 1)["a"]
    assert (found.stored.status, found.stored.finish, found.stored.body) == (400, "content_filter", b'{"error": "no"}')
    assert script.asked == ["a"]
    assert [one.key for one in store.kept] == [ask("a").key]
    dispatch.close()


def test_a_parameter_that_is_not_taken_is_no_refusal_of_the_question():
    store = Memory()
    refusal = CallFailed(Kind.REFUSED, "response_format is not supported", status=400)
    dispatch = started(Script(a=[refusal]), store)
    dispatch.submit(ask("a", schema={"type": "json_schema"}))
    assert outcomes(dispatch, 1)["a"].failure is refusal
    assert store.kept == []
    dispatch.close()


def test_a_wrong_key_stops_the_run_and_the_rest_comes_out_as_not_asked():
    wrong = CallFailed(Kind.KEY, "wrong", status=401)
    texts = [f"q{n}" for n in range(30)]
    script = Script(**{text: [wrong] for text in texts})
    dispatch = started(script)
    for text in texts:
        dispatch.submit(ask(text))
    found = outcomes(dispatch, 30)
    assert dispatch.stopped is wrong
    assert {one.failure.kind for one in found.values()} == {Kind.KEY, Kind.STOPPED}
    assert len(script.asked) <= 10
    dispatch.close()


def test_of_several_accounts_one_with_a_wrong_key_is_left_out(caplog):
    texts = [f"q{n}" for n in range(30)]
    bad = Script(**{text: [CallFailed(Kind.KEY, "wrong", status=401)] for text in texts})
    good = Script()
    dispatch = started([bad, good])
    for text in texts:
        dispatch.submit(ask(text))
    found = outcomes(dispatch, 30)
    assert all(one.stored is not None for one in found.values())
    assert dispatch.stopped is None
    assert len(bad.asked) <= 10
    dispatch.close()


def test_calls_are_shared_out_over_the_accounts():
    one, other = Script(), Script()
    dispatch = started([one, other])
    for number in range(40):
        dispatch.submit(ask(f"q{number}"))
    outcomes(dispatch, 40)
    assert min(len(one.asked), len(other.asked)) >= 10
    dispatch.close()


def test_the_budget_lets_exactly_so_many_requests_out():
    script = Script()
    dispatch = started(script, limits=Limits(requests=7))
    for number in range(20):
        dispatch.submit(ask(f"q{number}"))
    found = outcomes(dispatch, 20)
    assert len(script.asked) == 7
    assert sum(one.stored is not None for one in found.values()) == 7
    assert (dispatch.stopped.code, dispatch.stopped.reason) == ("budget", "--budget-requests")
    dispatch.close()


def test_what_is_submitted_after_a_stop_comes_out_as_not_asked():
    dispatch = started(Script())
    dispatch.stop(CallFailed(Kind.STOPPED, "enough"))
    dispatch.submit(ask("a"))
    assert outcomes(dispatch, 1)["a"].failure.kind is Kind.STOPPED
    dispatch.close()


def test_a_store_that_cannot_be_written_stops_the_run_and_the_answer_is_still_used():
    dispatch = started(Script(), Memory(error=StoppedError("the disk is full")))
    dispatch.submit(ask("a"))
    assert outcomes(dispatch, 1)["a"].stored.body == BODY
    assert dispatch.stopped.code == "store"
    assert isinstance(dispatch.store_error, StoppedError)
    dispatch.close()


def test_a_run_that_mostly_fails_is_stopped_with_an_example():
    refused = CallFailed(Kind.REFUSED, "the model does not exist", status=404)
    texts = [f"q{n}" for n in range(100)]
    script = Script(**{text: [refused] for text in texts})
    dispatch = started(script, breaker=Breaker())
    for text in texts:
        dispatch.submit(ask(text))
    outcomes(dispatch, 100)
    assert "the model does not exist" in dispatch.stopped.reason
    assert len(script.asked) <= 20
    dispatch.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_ours_in_a_thread_ends_the_run_instead_of_letting_it_hang():
    dispatch = started(Script(a=[ZeroDivisionError("ours")]))
    dispatch.submit(ask("a"))
    assert outcomes(dispatch, 1)["a"].failure.kind is Kind.STOPPED
    assert isinstance(dispatch.fault, ZeroDivisionError)
    dispatch.close()
