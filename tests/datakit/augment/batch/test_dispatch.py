"""The dispatch over a server in memory: what no scenario of the fault server does."""

from __future__ import annotations

import pytest

from datakit.augment.batch import Pace
from datakit.augment.batch.notes import Note
from datakit.augment.budget import Limits
from datakit.augment.failures import CallFailed, Kind
from tests.datakit.augment.batch.hand import FAST, Bench, Memory, body, request, text_of, until


def drop(desk: Memory, times: int, failure: CallFailed) -> None:
    """Let the first ``times`` calls of create fail, before anything is made."""
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise failure

    desk.before_create = fail


def test_requests_that_come_together_go_together_and_each_answer_finds_its_own(tmp_path):
    desk = Memory()
    with Bench(tmp_path, desk) as bench:
        bench.submit(*range(5))
        found = bench.outcomes(5)
        assert desk.asked == [[f"Question {number}?" for number in range(5)]]
        assert {asked: text_of(outcome.stored) for asked, outcome in found.items()} == {
            f"Question {number}?": f"Yes: Question {number}?" for number in range(5)
        }
        assert all(bench.store.get(outcome.request.key) == outcome.stored for outcome in found.values())
        assert (bench.dispatch.figures.sent, bench.dispatch.figures.answered) == (5, 5)
        assert (bench.budget.requests, bench.budget.prompt_tokens, bench.budget.completion_tokens) == (5, 50, 25)
        assert until(lambda: not bench.notes.path.exists())


@pytest.mark.parametrize("pace", [Pace(3, 10**8, 0.15, 0.05, 0.1), Pace(50, 1100, 0.15, 0.05, 0.1)])
def test_a_file_holds_no_more_than_the_vendor_takes(tmp_path, pace):
    desk = Memory()
    with Bench(tmp_path, desk, pace=pace) as bench:
        bench.submit(*range(7))
        bench.outcomes(7)
    assert [asked for each in desk.asked for asked in each] == [f"Question {number}?" for number in range(7)]
    assert max(map(len, desk.asked)) <= 3
    assert all(len(data) <= pace.most_bytes for data in desk.files.values())


def test_one_model_a_file(tmp_path):
    desk = Memory()
    with Bench(tmp_path, desk) as bench:
        for number in range(4):
            bench.dispatch.submit(request(number, model="m1" if number < 2 else "m2"))
        bench.outcomes(4)
    assert list(map(len, desk.asked)) == [2, 2]


def test_an_answer_to_making_a_batch_that_is_lost_does_not_make_it_twice(tmp_path):
    desk = Memory()
    lost = [True]

    def lose() -> None:
        if lost.pop() if lost else False:
            raise CallFailed(Kind.TIMEOUT, "too late")

    desk.after_create = lose
    with Bench(tmp_path, desk) as bench:
        bench.submit(0, 1)
        bench.outcomes(2)
    assert len(desk.batches) == 1


@pytest.mark.parametrize("kind", [Kind.TIMEOUT, Kind.SERVER, Kind.RATE_LIMIT, Kind.CONNECTION])
def test_a_server_that_fails_for_now_is_asked_again_to_make_the_batch(tmp_path, kind):
    desk = Memory()
    drop(desk, 2, CallFailed(kind, "not now"))
    with Bench(tmp_path, desk) as bench:
        bench.submit(0, 1)
        bench.outcomes(2)
    assert (len(desk.batches), len(desk.files)) == (1, 1)


def test_a_server_that_fails_for_long_ends_the_run_and_leaves_no_note(tmp_path):
    desk = Memory()
    drop(desk, 1000, CallFailed(Kind.SERVER, "out of order"))
    with Bench(tmp_path, desk) as bench:
        bench.submit(0, 1)
        found = bench.outcomes(2)
        assert {outcome.failure.kind for outcome in found.values() if outcome.failure} == {Kind.STOPPED}
        assert "out of order" in str(bench.dispatch.stopped)
        assert not bench.notes.path.exists()


def test_a_look_that_fails_for_now_loses_nothing(tmp_path):
    desk = Memory()
    fails = [CallFailed(Kind.CONNECTION, "cut"), CallFailed(Kind.RATE_LIMIT, "slower", retry_after=0.1)]

    def look(batch: str) -> None:
        if fails:
            raise fails.pop()

    desk.looking = look
    with Bench(tmp_path, desk) as bench:
        bench.submit(0)
        assert bench.outcomes(1)["Question 0?"].failure is None


def test_answers_that_come_before_anybody_asks_are_kept_and_given_when_one_does(tmp_path):
    desk = Memory()
    with Bench(tmp_path, desk) as first:
        first.submit(0, 1, 2)
        assert until(lambda: desk.batches != {})
        assert until(lambda: any(note.id for note in first.notes.all()))
    with Bench(tmp_path, desk) as second:
        assert until(lambda: second.store.count() == 3)
        assert until(lambda: not second.notes.path.exists())
        stored = second.store.get(request(1).key)
        assert stored is not None
        assert stored.request == request(1).spelled
        second.submit(1)
        assert second.outcomes(1)["Question 1?"].stored == stored
        assert second.budget.requests == 0
        assert second.budget.tokens == 45
    assert len(desk.batches) == 1


def test_a_batch_that_no_account_can_see_stops_the_run_that_needs_it_and_no_other(tmp_path):
    desk = Memory()
    with Bench(tmp_path, desk) as first:
        first.submit(0)
        assert until(lambda: any(note.id for note in first.notes.all()))
    with Bench(tmp_path, Memory()) as other:
        other.submit(5)
        assert other.outcomes(1)["Question 5?"].failure is None
        other.submit(0)
        failure = other.outcomes(1)["Question 0?"].failure
        assert failure is not None
        assert failure.kind is Kind.STOPPED
        assert "no key of this run can see it" in failure.reason
    elsewhere = Memory()
    elsewhere.url = "https://b.example/v1"
    with Bench(tmp_path, elsewhere) as other:
        other.submit(0)
        failure = other.outcomes(1)["Question 0?"].failure
        assert failure is not None
        assert "no --base-url of this run can see it" in failure.reason
    assert len(desk.batches) == 1
    with Bench(tmp_path, Memory(), desk) as again:
        again.submit(0)
        assert again.outcomes(1)["Question 0?"].failure is None
    assert len(desk.batches) == 1


def test_where_too_many_tokens_wait_smaller_batches_go_one_after_the_other(tmp_path):
    desk = Memory()
    out: list[int] = []

    def fails(lines: list) -> tuple[str, str] | None:
        out.append(len(lines))
        return ("token_limit_exceeded", "Limit: 3 questions.") if len(lines) > 3 else None

    desk.fails = fails
    with Bench(tmp_path, desk) as bench:
        bench.submit(*range(8))
        found = bench.outcomes(8)
        assert all(outcome.failure is None for outcome in found.values())
        assert bench.budget.requests == 8
        assert bench.dispatch.figures.sent == 8
    assert list(map(len, desk.asked)) == [8, 4, 2, 2, 2, 2]


def test_a_batch_refused_for_its_content_names_the_line(tmp_path):
    desk = Memory()
    desk.fails = lambda lines: ("invalid_request", "line 2: messages are wanted.")
    with Bench(tmp_path, desk) as bench:
        bench.submit(0, 1)
        bench.outcomes(2)
        assert bench.dispatch.stopped is not None
        assert bench.dispatch.stopped.reason == "a batch was refused: invalid_request: line 2: messages are wanted"
    assert len(desk.batches) == 1


def test_requests_that_no_line_came_for_are_sent_again_up_to_the_attempts(tmp_path):
    desk = Memory()
    said = desk.says
    desk.says = lambda line: None if "1?" in line["body"]["messages"][0]["content"] else said(line)
    with Bench(tmp_path, desk, attempts=3) as bench:
        bench.submit(0, 1, 2)
        found = bench.outcomes(3)
        assert found["Question 1?"].failure is not None
        assert found["Question 1?"].failure.kind is Kind.SERVER
        assert (bench.dispatch.figures.sent, bench.dispatch.figures.retried) == (5, 2)
    assert list(map(len, desk.asked)) == [3, 1, 1]


def test_a_result_file_that_is_gone_is_asked_for_anew(tmp_path):
    desk = Memory()
    inner, gone = desk.fetch, [True]

    def fetch(file, to):
        if gone:
            gone.pop()
            raise CallFailed(Kind.REFUSED, "no such file", status=404)
        inner(file, to)

    desk.fetch = fetch  # type: ignore[method-assign]
    with Bench(tmp_path, desk) as bench:
        bench.submit(0)
        assert bench.outcomes(1)["Question 0?"].failure is None
    assert len(desk.batches) == 2


def test_lines_that_come_twice_or_for_nobody_change_nothing(tmp_path):
    desk = Memory()
    inner = desk.fetch

    def fetch(file, to):
        inner(file, to)
        whole = to.read()
        to.seek(0)
        to.write(whole + b'{"custom_id": "somebody"}\nno JSON\n\n' + whole)
        to.seek(0)

    desk.fetch = fetch  # type: ignore[method-assign]
    with Bench(tmp_path, desk) as bench:
        bench.submit(0, 1)
        bench.outcomes(2)
        assert until(lambda: not bench.notes.path.exists())
        assert bench.dispatch.figures.answered == 2
        assert bench.dispatch.outcomes.empty()


def test_tokens_are_kept_free_for_what_is_out_and_the_rest_waits_for_it(tmp_path):
    desk = Memory()
    with Bench(tmp_path, desk, limits=Limits(tokens=1000)) as bench:
        bench.submit(*range(4))  # about 410 tokens are kept free for each, and 15 are used
        found = bench.outcomes(4)
        assert all(outcome.failure is None for outcome in found.values())
    assert list(map(len, desk.asked)) == [2, 2]


def test_answers_that_cannot_be_read_stop_the_next_batch(tmp_path):
    desk = Memory()
    with Bench(tmp_path, desk) as bench:
        bench.submit(*range(20))
        bench.outcomes(20)
        for _ in range(9):
            bench.dispatch.unread("no list")
        assert bench.dispatch.stopped is None
        bench.dispatch.unread("no list")
        bench.submit(30)
        assert bench.outcomes(1)["Question 30?"].failure is not None
        assert str(bench.dispatch.stopped).endswith("10 answers could not be read. For example: no list")


def test_a_stop_tells_those_who_wait_and_a_store_that_fails_keeps_the_note(tmp_path, monkeypatch):
    desk = Memory()
    with Bench(tmp_path, desk) as bench:
        monkeypatch.setattr(bench.store, "put", lambda stored, done: done(OSError("no room")))
        bench.submit(0)
        assert bench.outcomes(1)["Question 0?"].stored is not None  # used in this run, though it could not be kept
        bench.submit(1)
        assert bench.outcomes(1)["Question 1?"].stored is None
        assert str(bench.dispatch.store_error) == "no room"
        assert bench.notes.path.exists()
    with Bench(tmp_path, desk) as again:
        again.submit(0)
        assert again.outcomes(1)["Question 0?"].failure is None
    assert len(desk.batches) == 1


def test_a_fault_of_ours_in_the_thread_is_handed_to_those_who_wait(tmp_path):
    desk = Memory()

    def look(batch: str) -> None:
        raise ZeroDivisionError("ours")

    desk.looking = look
    with Bench(tmp_path, desk) as bench:
        bench.submit(0)
        failure = bench.outcomes(1)["Question 0?"].failure
        assert failure is not None
        assert failure.kind is Kind.STOPPED
        assert repr(bench.dispatch.fault) == "ZeroDivisionError('ours')"
        assert bench.notes.path.exists()


def test_the_live_view_says_how_things_stand(tmp_path):
    desk = Memory()
    with Bench(tmp_path, desk, pace=Pace(quiet_s=0.1, first_look_s=0.5)) as bench:
        bench.submit(0, 1)
        assert bench.dispatch.lanes[0].why == "2 requests for the next batch"
        assert until(lambda: bench.dispatch.concurrency == 2)
        assert until(lambda: bench.dispatch.lanes[0].why == "in 1 batch (in_progress), 0 of 2 done")
        assert bench.dispatch.lanes[0].limit == 2
        bench.dispatch.stop(CallFailed(Kind.STOPPED, "interrupted"))
        assert bench.dispatch.concurrency == 0
        assert {outcome.failure.kind for outcome in bench.outcomes(2).values() if outcome.failure} == {Kind.STOPPED}


def test_a_refusal_keeps_the_status_and_a_filter_is_one(tmp_path):
    desk = Memory()
    filtered = body("")
    filtered["choices"][0]["finish_reason"] = "content_filter"
    said = {
        "Question 0?": {"response": {"status_code": 422, "body": {"error": {"message": "No.", "code": "never"}}}},
        "Question 1?": {"response": {"status_code": 200, "body": filtered}},
    }
    desk.says = lambda line: said[line["body"]["messages"][0]["content"]]
    with Bench(tmp_path, desk) as bench:
        bench.submit(0, 1)
        found = bench.outcomes(2)
        kept = {asked: (o.stored.status, o.stored.finish) for asked, o in found.items() if o.stored}
        assert kept == {"Question 0?": (422, "never"), "Question 1?": (400, "content_filter")}
        assert bench.store.get(request(0).key) == found["Question 0?"].stored


def test_an_intent_that_no_server_knows_is_forgotten_and_asked_for(tmp_path):
    desk = Memory()
    with Bench(tmp_path, Memory(), pace=FAST) as bench:
        bench.notes.intend(Note("tag", "", "openai", desk.url, "file-9", 0.0), [request(0)])
    with Bench(tmp_path, desk) as bench:
        bench.submit(0)
        assert bench.outcomes(1)["Question 0?"].failure is None
    assert (desk.lists, len(desk.batches)) == (1, 1)
