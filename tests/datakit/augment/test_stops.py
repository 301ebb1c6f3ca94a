"""Runs that stop while calls are out: nothing hangs, nothing that came back is lost."""

import time

from datakit.augment.budget import Limits
from datakit.augment.failures import CallFailed, Kind
from tests.datakit.augment.test_dispatch import Memory, Script, ask, outcomes, started

LIMITED = CallFailed(Kind.RATE_LIMIT, "slow down", status=429, retry_after=0.3)


class Slow(Script):
    """Takes a moment for each call."""

    def send(self, request, timeout_s):
        time.sleep(0.2)
        return super().send(request, timeout_s)


def test_a_rate_limit_that_comes_back_after_the_stop_comes_out_as_not_asked():
    texts = [f"q{n}" for n in range(6)]
    dispatch = started(Slow(**{text: [LIMITED] for text in texts[:3]}), limits=Limits(requests=3))
    for text in texts:
        dispatch.submit(ask(text))
    time.sleep(0.1)
    dispatch.stop(CallFailed(Kind.STOPPED, "enough"))
    found = outcomes(dispatch, 6)
    assert {one.failure.kind for one in found.values() if one.failure} == {Kind.STOPPED}
    dispatch.close()


def test_requests_that_were_refused_for_now_do_not_use_up_the_budget():
    texts = [f"q{n}" for n in range(6)]
    script = Slow(**{text: [LIMITED] for text in texts[:4]})
    dispatch = started(script, limits=Limits(requests=4))
    for text in texts:
        dispatch.submit(ask(text))
    found = outcomes(dispatch, 6)
    assert sum(one.stored is not None for one in found.values()) == 4
    dispatch.close()


def test_a_wrong_key_of_several_that_comes_back_after_the_stop_comes_out_as_not_asked():
    texts = [f"q{n}" for n in range(6)]
    bad = Slow(**{text: [CallFailed(Kind.KEY, "wrong", status=401)] for text in texts})
    dispatch = started([bad, Slow()])
    for text in texts:
        dispatch.submit(ask(text))
    time.sleep(0.1)
    dispatch.stop(CallFailed(Kind.STOPPED, "enough"))
    assert len(outcomes(dispatch, 6)) == 6
    dispatch.close()


def test_the_budget_of_minutes_ends_a_wait_that_a_server_asked_for():
    wait = CallFailed(Kind.RATE_LIMIT, "later", status=429, retry_after=600.0)
    dispatch = started(Script(a=[wait]), limits=Limits(minutes=0.01))
    dispatch.submit(ask("a"))
    assert outcomes(dispatch, 1)["a"].failure.kind is Kind.STOPPED
    assert dispatch.stopped.reason == "--budget-minutes"
    dispatch.close()


def test_answers_on_their_way_are_kept_when_a_fault_of_ours_ends_the_run():
    store = Memory()
    texts = [f"q{n}" for n in range(6)]
    dispatch = started(Slow(q0=[ZeroDivisionError("ours")]), store, workers=6)
    for text in texts:
        dispatch.submit(ask(text))
    time.sleep(0.1)
    dispatch.close(wait=True)
    assert len(store.kept) == 5
    assert dispatch.concurrency == 0
