"""Caps are kept exactly: by a simulated clock, by properties, and over the wire."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datakit.faults.bodies import duration
from tests.datakit.faults.caps import METERS, Cap, Gate
from tests.datakit.faults.client import ask, ask_at_once, connect, eventually
from tests.datakit.faults.server import FaultServer

GAPS = st.lists(st.integers(0, 400), min_size=1, max_size=200)


def admitted(cap: Cap, times: list[float]) -> list[float]:
    gate = Gate((cap,))
    return [at for at in times if gate.admits(at, 1)]


def clock(gaps: list[int]) -> list[float]:
    """Times in seconds from gaps in milliseconds, exact in binary so that borders are met exactly."""
    now, found = 0, []
    for gap in gaps:
        now += gap
        found.append(now / 1024)
    return found


@given(GAPS)
def test_no_second_has_more_than_a_sliding_window_allows(gaps: list[int]):
    taken = admitted(Cap(5, 1.0, "sliding"), clock(gaps))
    assert all(len([t for t in taken if at <= t < at + 1]) <= 5 for at in taken)


@given(GAPS)
def test_no_window_has_more_than_a_fixed_window_allows(gaps: list[int]):
    times = clock(gaps)
    taken = admitted(Cap(5, 1.0, "fixed"), times)
    windows = [int(at - times[0]) for at in taken]
    assert all(windows.count(window) <= 5 for window in windows)
    # And none is refused while its window has room.
    asked = [int(at - times[0]) for at in times]
    assert all(windows.count(window) == min(5, asked.count(window)) for window in asked)


@given(GAPS)
def test_no_span_has_more_than_the_burst_and_what_flowed_in(gaps: list[int]):
    taken = admitted(Cap(5, 1.0, "bucket", burst=3), clock(gaps))
    for i, start in enumerate(taken):
        for j in range(i, len(taken)):
            assert j - i + 1 <= 3 + 5 * (taken[j] - start) + 1e-6


@pytest.mark.parametrize("kind", sorted(METERS))
@given(gaps=GAPS)
def test_after_the_wait_that_is_told_a_request_fits_and_just_before_it_does_not(kind: str, gaps: list[int]):
    cap = Cap(4, 1.0, kind)  # type: ignore[arg-type]
    meter = METERS[kind](cap)
    now = 0.0
    for now in clock(gaps):
        if meter.fits(now, 1):
            meter.use(now, 1)
    wait_s = meter.quota(now, 1).wait_s
    if wait_s:
        assert not meter.fits(now + wait_s * 0.99 - 1e-6, 1) or wait_s < 1e-5
    assert meter.fits(now + wait_s + 1e-6, 1)


def test_at_20_a_second_400_requests_need_19_seconds_whatever_the_kind():
    for kind in METERS:
        gate = Gate((Cap(20, 1.0, kind),))
        done, at = 0, 0
        while done < 400:
            while gate.admits(at / 64, 1):
                done += 1
            at += 1
        assert 18.9 <= (at - 1) / 64 <= 19.0, kind


def test_refused_requests_use_up_quota_only_where_the_cap_says_so():
    times = [0.0, 0.0, 0.5, 0.9, 1.0]
    assert admitted(Cap(1, 1.0, "sliding"), times) == [0.0, 1.0]
    assert admitted(Cap(1, 1.0, "sliding", counts_refused=True), times) == [0.0]


def test_a_token_cap_counts_tokens():
    gate = Gate((Cap(100, 60.0, "fixed", "tokens"), Cap(10, 60.0, "fixed")))
    assert [gate.admits(0.0, 40), gate.admits(0.0, 40), gate.admits(0.0, 40), gate.admits(0.0, 20)] == [
        True,
        True,
        False,
        True,
    ]
    quotas = gate.quotas(0.0, 40)
    assert (quotas["tokens"].remaining, quotas["requests"].remaining) == (0, 7)


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [(0, "0ms"), (0.0121, "13ms"), (1, "1s"), (1.5, "1.5s"), (60, "1m0s"), (361, "6m1s"), (3723, "1h2m3s")],
)
def test_durations_are_spelled_as_the_reset_headers_do(seconds: float, spelled: str):
    assert duration(seconds) == spelled


def test_a_burst_over_the_cap_is_refused_and_told_when_to_come_back():
    with FaultServer("cap20", latency_s=0.0, caps=[{"limit": 20, "per_s": 60.0}]) as server:
        connection = connect(server)
        got = [ask(server, str(i), on=connection) for i in range(25)]
        assert [g.status for g in got] == [200] * 20 + [429] * 5
        assert 50 <= int(got[20].headers["retry-after"]) <= 60
        assert server.stats.busiest(60.0) == 20
        assert server.stats.by_action == {"answer": 20, "cap": 5}


def test_the_wait_that_is_told_in_ms_is_enough():
    with FaultServer("cap5", latency_s=0.0, retry_after="ms") as server:
        for i in range(5):
            ask(server, str(i))
        refused = ask(server, "one more")
        assert refused.status == 429
        time.sleep(int(refused.headers["retry-after-ms"]) / 1000)
        assert ask(server, "one more").status == 200


def test_quota_headers_stand_on_every_reply():
    with FaultServer("cap20_headers", latency_s=0.0, caps=[{"limit": 20, "per_s": 50.0}]) as server:
        connection = connect(server)
        got = [ask(server, str(i), on=connection) for i in range(21)]
        left = [g.headers["x-ratelimit-remaining-requests"] for g in got]
        assert left == [str(i) for i in reversed(range(20))] + ["0"]
        assert {g.headers["x-ratelimit-limit-requests"] for g in got} == {"20"}
        assert got[20].status == 429
        assert 40 < float(got[20].headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 50
        assert 40_000 < int(got[20].headers["retry-after-ms"]) <= 50_000


def test_no_more_run_at_a_time_than_the_concurrency_allows():
    with FaultServer("cap_concurrency8", latency_s=1.0) as server:
        statuses = sorted(g.status for g in ask_at_once(server, 12))
        assert statuses == [200] * 8 + [429] * 4
        assert server.stats.peak_concurrency == 8
        assert sorted(g.status for g in ask_at_once(server, 8)) == [200] * 8


def test_a_client_that_leaves_gives_its_place_back():
    with FaultServer("honest", latency_s=0.3, concurrency=1) as server:
        with pytest.raises(TimeoutError):
            ask(server, timeout=0.1)
        assert eventually(lambda: server.stats.gone == 1)
        assert ask(server).status == 200


def test_zhipu_calls_its_limits_by_their_codes():
    with FaultServer({"concurrency": 0}) as server:
        assert ask(server, path="/api/paas/v4/chat/completions").json["error"]["code"] == "1302"
        assert ask(server).json["error"]["code"] == "rate_limit_exceeded"
    with FaultServer({"caps": [{"limit": 0}]}) as server:
        assert ask(server, path="/api/paas/v4/chat/completions").json["error"]["code"] == "1303"
