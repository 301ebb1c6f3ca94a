"""How much a lane sends, played through on a clock of its own against servers that count in different ways."""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from datakit.augment.admission import CANARY, Bucket, Lane, duration

DELAY = 0.01  # seconds until a refusal is back


@dataclass
class Played:
    """What came of it: seconds to the last answer, refusals, the most on their way at once, and when each was taken."""

    seconds: float = 0.0
    refused: int = 0
    at_once: int = 0
    taken: list[float] = field(default_factory=list)


def play(lane, server, count, latency=0.2, *, retry_after=None, headers=None, until=10_000.0):
    """Send ``count`` calls through a lane. ``server(now, on_its_way)`` says whether it takes one that comes now."""
    now, todo, done, inside = 0.0, count, 0, 0
    events: list[tuple[float, int, str, float]] = []  # when, number, what, when it was sent
    numbers = iter(range(10**9))
    played = Played()
    while done < count and now < until:
        when = lane.opens_at(now, 100) if todo else float("inf")
        nearest = events[0][0] if events else float("inf")
        assert min(when, nearest) < float("inf"), "nothing would ever happen again"
        if when <= nearest:
            now = max(now, when)
            if lane.opens_at(now, 100) > now:
                continue
            lane.sent(now, 100)
            todo -= 1
            played.at_once = max(played.at_once, lane.in_flight)
            if server(now, inside):
                inside += 1
                played.taken.append(now)
                heapq.heappush(events, (now + latency, next(numbers), "answer", now))
            else:
                heapq.heappush(events, (now + DELAY, next(numbers), "refusal", now))
            continue
        now, _, what, sent_at = heapq.heappop(events)
        if what == "answer":
            inside -= 1
            done += 1
            lane.answered(now, sent_at, 100, 100, headers(now) if headers else {})
            if done >= CANARY:
                lane.open()
        else:
            played.refused += 1
            todo += 1
            lane.refused_for_now(now, sent_at, 100, retry_after)
    played.seconds = now
    assert lane.in_flight == 0 or now >= until
    return played


def sliding(most, per_s):
    taken = deque()

    def server(now, inside):
        while taken and taken[0] <= now - per_s:
            taken.popleft()
        if len(taken) >= most:
            return False
        taken.append(now)
        return True

    return server


def fixed(most, per_s):
    count = {}

    def server(now, inside):
        window = int(now / per_s)
        count[window] = count.get(window, 0) + 1
        return count[window] <= most

    return server


def bucket(rate, burst):
    level = [float(burst), 0.0]

    def server(now, inside):
        level[0] = min(level[0] + (now - level[1]) * rate, burst)
        level[1] = now
        if level[0] < 1:
            return False
        level[0] -= 1
        return True

    return server


def capped(counts):
    return {"sliding": sliding(20, 1.0), "fixed": fixed(20, 1.0), "bucket": bucket(20, 20)}[counts]


@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize("counts", ["sliding", "fixed", "bucket"])
def test_a_cap_of_20_a_second_is_kept_full_with_at_most_10_refusals(counts, retry_after):
    played = play(Lane(64), capped(counts), 400, 0.2, retry_after=retry_after)
    assert played.refused <= 10
    # 19 s are the floor; the canary takes a latency, and a wait of a second that the server asks for is honoured.
    assert played.seconds <= 19 * 1.1 + 0.2 + (retry_after or 0)


@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize("latency", [0.05, 1.0, 3.0])
@pytest.mark.parametrize("counts", ["sliding", "fixed", "bucket"])
def test_however_long_answers_take_few_calls_are_refused(counts, latency, retry_after):
    played = play(Lane(128), capped(counts), 400, latency, retry_after=retry_after)
    assert len(played.taken) == 400
    assert played.refused <= 60
    assert played.seconds <= 2.5 * 19 + 3 * latency


def test_a_cap_of_5_a_second_loses_nothing():
    played = play(Lane(64), sliding(5, 1.0), 100)
    assert len(played.taken) == 100
    assert played.refused <= 20
    assert played.seconds <= 1.6 * 19


def test_a_cap_on_the_number_at_once_is_found():
    played = play(Lane(64), lambda now, inside: inside < 8, 400, 0.5)
    assert played.seconds <= 1.6 * 400 / 16
    assert played.refused <= 40


def test_60_a_minute_without_a_word_of_when_to_come_back():
    played = play(Lane(64), sliding(60, 60.0), 180, 0.5)
    assert len(played.taken) == 180
    assert played.seconds <= 2 * 120
    assert played.refused <= 60


def test_without_refusals_it_grows_to_all_workers_and_stays_there():
    lane = Lane(128)
    played = play(lane, lambda now, inside: True, 128 * 120, 1.0)
    assert played.at_once == 128
    assert 128 * 120 / played.seconds >= 0.95 * 128
    assert played.refused == 0


def test_before_the_canary_lives_no_more_than_ten_are_on_their_way():
    lane = Lane(64)
    for _ in range(CANARY):
        assert lane.opens_at(0.0, 1) == 0.0
        lane.sent(0.0, 1)
    assert lane.opens_at(0.0, 1) == float("inf")
    for _ in range(5):
        lane.answered(1.0, 0.0, 1, 1, {})
    assert lane.limit == CANARY


def test_single_refusals_among_many_answers_change_nothing():
    dice = random.Random(3)
    lane = Lane(64)
    played = play(lane, lambda now, inside: dice.random() > 0.01, 6_000, 0.5)
    assert played.seconds <= 1.75 * 6_000 / 128
    assert lane.rate is None or lane.rate > 32


def test_retry_after_holds_the_lane_for_as_long_as_the_server_says():
    lane = Lane(4)
    lane.sent(0.0, 1)
    lane.refused_for_now(0.1, 0.0, 1, 7.0)
    assert lane.opens_at(1.0, 1) >= 7.1
    assert "wait 7 s" in lane.why


def test_of_a_burst_only_the_first_refusal_cuts():
    lane = Lane(64)
    for number in range(10):
        lane.sent(number / 1000, 1)
    for number in range(10):
        lane.refused_for_now(0.02 + number / 1000, number / 1000, 1, None)
    lane.opens_at(1.0, 1)
    assert (lane.refused, lane.bursts) == (10, 1)


def test_failures_in_a_row_hold_a_lane_back_ever_longer():
    lane = Lane(4)
    waits = []
    for number in range(60):
        lane.sent(float(number), 1)
        lane.failed(float(number), 1)
        waits.append(lane.opens_at(float(number), 1) - number)
    assert waits[10] == 0
    assert 0 < waits[20] < waits[59] <= 60
    lane.sent(100.0, 1)
    lane.answered(101.0, 100.0, 1, 1, {})
    assert not lane.troubled


def test_quota_headers_slow_a_lane_down_before_it_is_refused():
    server = sliding(20, 1.0)
    taken = deque()

    def counted(now, inside):
        if not server(now, inside):
            return False
        taken.append(now)
        return True

    def headers(now):
        left = 20 - sum(at > now - 1.0 for at in taken)
        reset = max(taken[-1] + 1.0 - now, 0.01)
        return {
            "x-ratelimit-limit-requests": "20",
            "x-ratelimit-remaining-requests": str(max(left, 0)),
            "x-ratelimit-reset-requests": f"{reset:.3f}s",
        }

    played = play(Lane(64), counted, 200, 0.1, headers=headers)
    assert played.refused <= 10
    assert played.seconds <= 1.4 * 9


def test_rpm_is_kept_from_the_first_call_on():
    lane = Lane(64, rpm=600)
    played = play(lane, lambda now, inside: True, 300, 0.1)
    assert max(sum(at - 60 < other <= at for other in played.taken) for at in played.taken) <= 610
    assert 300 / 10 * 0.9 <= played.seconds <= 31


def test_tpm_takes_the_guess_and_gives_back_what_was_not_used():
    lane = Lane(64, tpm=6_000)  # 100 a second, 1,000 at once
    for _ in range(10):
        lane.sent(0.0, 100)
    assert lane.opens_at(0.0, 100) == float("inf")  # the canary
    for _ in range(10):
        lane.answered(0.0, 0.0, 100, 20, {})
    assert lane.opens_at(0.0, 800) == 0.0
    assert lane.opens_at(0.0, 900) == pytest.approx(1.0)


def test_a_failed_call_gives_its_tokens_back():
    lane = Lane(64, tpm=6_000)
    lane.sent(0.0, 1_000)
    lane.failed(0.0, 1_000)
    assert lane.opens_at(0.0, 1_000) == 0.0


def test_a_bucket_opens_when_enough_has_come_in():
    one = Bucket(60.0)
    assert one.opens_at(0.0, 1) == 0.0
    one.take(0.0, 1)
    assert one.opens_at(0.0, 1) == pytest.approx(1.0)
    assert one.opens_at(1.0, 1) == 1.0


def test_a_bucket_lets_through_what_is_larger_than_itself_when_it_is_full():
    one = Bucket(60.0)
    assert one.opens_at(0.0, 1_000_000) == 0.0
    one.take(0.0, 1_000)
    assert one.opens_at(0.0, 1) == pytest.approx(1_000.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("6m0s", 360.0), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("2", 2.0), ("", None), ("soon", None), ("3 s", None)],
)  # fmt: skip
def test_durations_as_servers_spell_them(text, seconds):
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_a_shut_lane_never_opens():
    lane = Lane(4)
    lane.shut = True
    assert lane.opens_at(5.0, 1) == float("inf")
