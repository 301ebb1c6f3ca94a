"""Runs against servers that fail in each way they do: nothing is lost, nothing is bought twice, and the reason is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from datakit.augment.budget import Limits
from datakit.augment.store import AnswerStore
from datakit.outcome import Outcome
from registry.errors import StoppedError, UsageError
from tests.datakit.augment.runs import KEY, read, rejects, run, seeds, write
from tests.datakit.faults.server import FaultServer, key_hash


@pytest.fixture(autouse=True)
def here(folder: Path) -> Path:
    return folder


def prepare(count: int, *words: str) -> None:
    """Seeds; the last ones have ``words`` in their questions."""
    rows = seeds(count)
    for row, word in zip(rows[-len(words) :] if words else [], words, strict=True):
        row["instruction"] += f" It is called {word}."
    write(Path("seeds.jsonl"), rows)


def ids() -> list[int]:
    """The seeds that a row was made of; each once, in order."""
    return [row["id"] for row in read("more.jsonl")]


def quiet(server: FaultServer, **options: Any) -> Outcome:
    """A further run with an honest server, which has to answer nothing."""
    server.use("honest")
    asked = len(server.stats.requests)
    outcome = run(server.url, **options)
    assert len(server.stats.requests) == asked
    return outcome


@pytest.mark.parametrize(
    ("scenario", "count", "options"),
    [
        ("cap20", 32, {}),
        ("cap5", 7, {}),
        ("cap_concurrency8", 24, {"latency_s": 0.05}),
    ],
)
def test_a_server_that_takes_only_so_many_is_met_with_few_calls_in_vain(scenario, count, options):
    prepare(count)
    with FaultServer(scenario, **options) as server:
        outcome = run(server.url, workers=64)
        assert (outcome.exit_code, ids()) == (0, list(range(count)))
        assert server.stats.by_status[429] <= 10
        assert server.stats.answered_twice == {}
        quiet(server)


@pytest.mark.parametrize(
    ("scenario", "changes"),
    [
        ("mixed20", {"latency_s": 0.01}),
        ("broken_bodies", {"latency_s": 0.01}),
        ("odd_bodies", {}),
        ("outage", {"rules": [{"when": {"from_s": 0.1, "until_s": 0.6}, "do": {"action": "status", "status": 500}}]}),
        ("storm429", {"rules": [{"when": {"from_s": 0.1, "until_s": 0.6}, "do": "rate_limit"}], "latency_s": 0.02}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faults_that_pass_cost_no_row_and_no_answer(scenario, changes):
    prepare(40)
    with FaultServer(scenario, **changes) as server:
        outcome = run(server.url, attempts=12)
        assert (outcome.exit_code, ids()) == (0, list(range(40)))
        assert not rejects()
        # What was answered in a body that could not be read had to be asked again, and nothing else.
        unread = {"broken_bodies": server.stats.answered}.get(scenario, 0)
        assert sum(server.stats.answered_twice.values()) <= unread
        quiet(server)


def test_a_request_that_is_always_refused_costs_one_attempt_in_all_runs():
    prepare(12, "poison")
    with FaultServer("poison", latency_s=0.0) as server:
        first = run(server.url)
        assert ids() == list(range(11))
        asked = [b"poison" in seen.body for seen in server.stats.requests]
        assert (asked.count(True), asked.count(False)) == (1, 11)
        (reject,) = rejects()
        assert reject["row"] == 12
        assert (reject["kind"], reject["reason"]) == ("refused", "refused: This prompt cannot be processed.")
        assert reject["code"]
        assert orjson.loads(reject["raw"])["id"] == 11
        assert first.exit_code == 0
        before = read("more.jsonl"), rejects()
        quiet(server)
        assert (read("more.jsonl"), rejects()) == before
        assert quiet(server, strict=True).exit_code == 1
        run(server.url, retry_refused=True)
        assert ids() == list(range(12))
        assert not Path("more.jsonl.rejects.jsonl").exists()


def test_a_quota_that_is_used_up_stops_the_run_with_what_it_has_and_a_further_run_goes_on():
    prepare(30)
    with FaultServer({"rules": [{"when": {"after": 12}, "do": "quota"}], "latency_s": 0.02}) as server:
        outcome = run(server.url, workers=4)
        assert outcome.exit_code == 3
        assert "exceeded your current quota" in outcome.details["stopped"]
        assert "Run the same command again" in outcome.details["stopped"]
        assert len(ids()) == 12
        assert ids() == sorted(ids())
        assert len(server.stats.requests) <= 12 + 4
        server.use("honest")
        assert run(server.url).exit_code == 0
        assert ids() == list(range(30))
        assert server.stats.answered == 30


def test_a_wrong_key_stops_the_run_before_anything_is_written_and_nothing_is_lost():
    prepare(30)
    with FaultServer(latency_s=0.01) as server:
        run(server.url, n=1, src=[write(Path("few.jsonl"), seeds(5))])
        before = Path("more.jsonl").read_bytes()
        server.use("wrong_key")
        with pytest.raises(UsageError) as refused:
            run(server.url, workers=4)
        assert refused.value.exit_code == 2
        assert "the server does not take the key (invalid_api_key): Incorrect API key provided." in str(refused.value)
        assert Path("more.jsonl").read_bytes() == before
        assert server.stats.by_status[401] <= 10
        server.use("honest")
        run(server.url)
        assert ids() == list(range(30))
        assert server.stats.answered_twice == {}


def test_when_all_calls_are_refused_the_run_stops_within_the_first_ones_and_says_why():
    prepare(100)
    with FaultServer("all_fail_400", latency_s=0.01) as server:
        with pytest.raises(StoppedError) as stopped:
            run(server.url, workers=64)
        assert len(server.stats.requests) <= 20
        told = str(stopped.value)
        assert "all of the first 10 calls failed" in told
        assert "The parameter max_tokens is not supported with this model" in told
        assert not Path("more.jsonl").exists()


def test_a_run_that_begins_well_and_then_mostly_fails_stops_too():
    prepare(150)
    rule = {"when": {"after": 30}, "do": {"action": "status", "status": 400, "message": "No more of these."}}
    with FaultServer({"rules": [rule]}) as server:
        outcome = run(server.url, workers=8)
        assert outcome.exit_code == 3
        assert "No more of these." in outcome.details["stopped"]
        assert "--retry-refused" in outcome.details["stopped"]
        assert len(ids()) == 30
        assert len(server.stats.requests) <= 75
        server.use("honest")
        run(server.url, retry_refused=True)
        assert ids() == list(range(150))
        assert server.stats.answered == 150


def test_nobody_there_ends_the_run_before_long():
    prepare(40)
    with FaultServer() as server:
        url = server.url
    with pytest.raises(StoppedError, match="Nothing was answered"):
        run(url, workers=32, attempts=3)


# ---- answers that are worth nothing, or little -----------------------------------------------------------------------


def test_a_cut_answer_gets_more_room_once():
    prepare(5)
    with FaultServer("length", latency_s=0.0) as server:
        outcome = run(server.url, max_tokens=2000)
        assert ids() == list(range(5))
        assert {orjson.loads(seen.body)["max_tokens"] for seen in server.stats.requests} == {2000, 4000}
        assert outcome.details["answers"]["more room"] == 5
        assert all("finish" not in row["_origin"] for row in read("more.jsonl"))
        quiet(server, max_tokens=2000)


def test_one_that_is_cut_always_is_marked_where_it_is_kept():
    prepare(3)
    with FaultServer("length_always", latency_s=0.0) as server:
        run(server.url, recipe="multi-turn", max_tokens=2000)
        for row in read("more.jsonl"):
            assert row["_origin"]["finish"] == "length"
        assert len(read("more.jsonl")) + len(rejects()) == 3
        quiet(server, recipe="multi-turn", max_tokens=2000)


def test_an_answer_that_cannot_be_read_is_corrected_once():
    prepare(5)
    with FaultServer("unparsable_once", latency_s=0.0) as server:
        outcome = run(server.url, recipe="expand", n=2)
        assert outcome.details["answers"]["corrected"] == 5
        assert len(read("more.jsonl")) == 10
        assert len(server.stats.requests) == 10
        quiet(server, recipe="expand", n=2)


def test_and_given_up_with_the_reason_and_the_key_of_its_answer_when_it_stays_so():
    prepare(5)
    with FaultServer("unparsable_always", latency_s=0.0) as server:
        outcome = run(server.url, recipe="expand", n=2)
        assert outcome.exit_code == 1  # no row is left
        assert len(server.stats.requests) == 10
        assert [reject["row"] for reject in rejects()] == [1, 2, 3, 4, 5]
        with AnswerStore("more.jsonl.store.sqlite") as store:
            for reject in rejects():
                assert reject["reason"].startswith("unparsable: asked for twice, and still: ")
                assert store.get(reject["code"]) is not None
        assert quiet(server, recipe="expand", n=2).num_rejected == 5


def test_a_server_whose_answers_nobody_can_read_is_not_asked_for_ever():
    prepare(200)
    with FaultServer("unparsable_always", latency_s=0.0) as server:
        with pytest.raises(StoppedError, match="calls failed for good"):
            run(server.url, recipe="expand", n=2)
        assert len(server.stats.requests) < 120


def test_untidy_answers_are_read_without_asking_again():
    prepare(16)
    with FaultServer("untidy") as server:
        outcome = run(server.url, recipe="expand", n=1)
        assert not rejects()
        assert outcome.details["answers"]["mended"] > 0
        quiet(server, recipe="expand", n=1)


def test_python_in_an_answer_is_read_and_never_run():
    prepare(4)
    with FaultServer("evil_python") as server:
        for recipe in ("expand", "paraphrase", "judge", "think"):
            run(server.url, recipe=recipe, n=1, out=f"{recipe}.jsonl")
    assert list(Path().rglob("*evaluated*")) == []


def test_lazy_answers_are_dropped_each_with_its_reason():
    prepare(60)
    with FaultServer("lazy") as server:
        outcome = run(server.url, recipe="expand", n=1)
        gone = Counter(row["reason"] for row in read("more.jsonl.drops.jsonl"))
        assert {"echo", "refusal", "language", "duplicate"} <= gone.keys()
        assert all(row["output"].strip() for row in read("more.jsonl"))
        assert len(read("more.jsonl")) + gone.total() == outcome.details["rows"]["made"]
        quiet(server, recipe="expand", n=1)


def test_huge_answers_are_kept_in_the_store_and_rejected():
    prepare(8)
    with FaultServer({"rules": [{"when": {"every": 4}, "do": {"action": "huge", "megabytes": 3.0}}]}) as server:
        outcome = run(server.url, recipe="expand", n=1)
        assert outcome.exit_code == 0
        quiet(server, recipe="expand", n=1)


# ---- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "do", ["hang", {"action": "late", "delay_s": 5.0}, {"action": "drip", "every_s": 0.2}], ids=str
)
def test_calls_that_take_too_long_are_given_up_and_made_again(do):
    prepare(8)
    with FaultServer({"rules": [{"when": {"asked": 1, "every": 3}, "do": do}]}) as server:
        outcome = run(server.url, timeout_s=0.4)
        assert (outcome.exit_code, ids()) == (0, list(range(8)))
        assert outcome.details["attempts_failed"] == {"timeout": 2}


def test_a_call_that_never_is_answered_is_left_for_a_further_run():
    prepare(12, "slow")
    with FaultServer({"rules": [{"when": {"contains": "slow"}, "do": "hang"}]}) as server:
        outcome = run(server.url, timeout_s=0.2, attempts=2)
        assert outcome.exit_code == 3
        assert ids() == list(range(11))
        (reject,) = rejects()
        assert reject["reason"] == "timeout: no answer within 0.2 s"
        assert "1 seeds got no answer this time" in outcome.details["stopped"]
        server.use("honest")
        asked = len(server.stats.requests)
        assert run(server.url).exit_code == 0
        assert len(server.stats.requests) == asked + 1
        assert ids() == list(range(12))


# ---- accounts --------------------------------------------------------------------------------------------------------


def test_two_keys_share_the_calls_and_one_of_two_addresses_may_be_down(monkeypatch):
    prepare(40)
    monkeypatch.setenv("OPENAI_API_KEYS", f"{KEY},sk-other")
    with FaultServer(latency_s=0.02) as server:
        run(server.url)
        assert min(server.stats.by_key[key_hash(key)] for key in (KEY, "sk-other")) >= 10


@pytest.mark.parametrize("bad", ["bad-key", "empty-key"])
def test_a_key_that_no_longer_serves_is_put_aside_while_others_go_on(monkeypatch, bad):
    prepare(40)
    monkeypatch.setenv("OPENAI_API_KEYS", f"{bad},sk-good")
    with FaultServer("one_bad_key", latency_s=0.02) as server:
        outcome = run(server.url)
        assert (outcome.exit_code, ids()) == (0, list(range(40)))
        assert server.stats.by_key[key_hash(bad)] <= 10
        assert server.stats.answered_twice == {}


SPREAD = {"uniform": [0.05, 0.4]}  # seconds: what was sent together comes back one by one


@pytest.mark.timeout(30)
def test_a_rate_limit_that_comes_back_after_the_run_stopped_is_not_waited_out():
    prepare(40)
    rules = [{"when": {"first": 12}, "do": "answer"}, {"when": {"every": 6}, "do": "quota"}, {"do": "rate_limit"}]
    with FaultServer({"latency_s": SPREAD, "rules": rules}) as server:
        outcome = run(server.url)
        assert outcome.exit_code == 3
        assert len(ids()) == 12


@pytest.mark.timeout(30)
def test_nor_is_a_key_that_no_longer_serves(monkeypatch):
    prepare(40)
    monkeypatch.setenv("OPENAI_API_KEYS", "sk-one,sk-two")
    rules = [{"when": {"first": 12}, "do": "answer"}, {"when": {"key": "sk-one"}, "do": "wrong_key"}]
    with FaultServer({"latency_s": SPREAD, "rules": rules}) as server:
        outcome = run(server.url, limits=Limits(requests=24))
        assert outcome.exit_code == 3
        assert len(ids()) == server.stats.answered


def test_zhipus_codes_each_have_their_way():
    prepare(15, "sensitive", "toolong", "badparam")
    with FaultServer("zhipu_codes", latency_s=0.01) as server:
        outcome = run(server.zhipu_url, provider="zhipu", attempts=12)
        assert ids() == list(range(12))
        assert outcome.exit_code == 0
        assert [reject["code"] for reject in rejects()] == ["1301", "1261", "1214"]
        assert server.stats.answered_twice == {}
        asked = len(server.stats.requests)
        run(server.zhipu_url, provider="zhipu")
        assert len(server.stats.requests) == asked


def test_zhipus_quota_stops_the_run():
    prepare(20)
    with FaultServer({"rules": [{"when": {"after": 5}, "do": "quota"}], "latency_s": 0.02}) as server:
        outcome = run(server.zhipu_url, provider="zhipu", workers=2)
        assert outcome.exit_code == 3
        assert "1113" in outcome.details["stopped"]


# ---- what is asked anew, and what is not -----------------------------------------------------------------------------

OWN = """---
name: own
version: 1
language: en
summary: an answer of ones own
seeds: chat
output: text
makes: same
stages: [sft]
inputs: {}
sampling: {temperature: 0.5}
---
<!-- system -->
Be short.
<!-- user -->
{{ seed.question }}
"""


def asked_by(server: FaultServer, act: Callable[[], Any]) -> int:
    before = len(server.stats.requests)
    act()
    return len(server.stats.requests) - before


def test_one_row_added_is_one_rows_calls_and_other_order_none():
    write(Path("seeds.jsonl"), seeds(60))
    with FaultServer() as server:
        assert asked_by(server, lambda: run(server.url)) == 60
        write(Path("seeds.jsonl"), [*seeds(30), *seeds(1, start=500), *seeds(30, start=30)])
        assert asked_by(server, lambda: run(server.url)) == 1
        assert ids() == [*range(30), 500, *range(30, 60)]
        write(Path("seeds.jsonl"), reversed([*seeds(60), *seeds(1, start=500)]))
        assert asked_by(server, lambda: run(server.url)) == 0
        assert ids() == [500, *reversed(range(60))]


def test_whatever_shapes_the_answer_asks_anew_and_back_again_costs_nothing():
    write(Path("seeds.jsonl"), [{**row, "output": ""} for row in seeds(6)])
    recipe = Path("own.md")
    recipe.write_text(OWN)
    with FaultServer() as server, FaultServer() as other:
        base = {"recipe": "own.md", "store": Path("answers.sqlite")}

        def asked(url: str = server.url, **options: Any) -> int:
            return asked_by(other if url == other.url else server, lambda: run(url, **{**base, **options}))

        assert asked() == 6
        assert asked(model="m2") == 6
        assert asked(temperature=0.1) == 6
        assert asked(top_p=0.3) == 6
        assert asked(max_tokens=3000) == 6
        assert asked(other.url) == 6
        recipe.write_text(OWN.replace("Be short.", "Be long."))
        assert asked() == 6
        recipe.write_text(OWN.replace("version: 1", "version: 2"))
        assert asked() == 6
        recipe.write_text(OWN.replace("{{ seed.question }}", "Answer: {{ seed.question }}"))
        assert asked() == 6
        recipe.write_text(OWN)
        for options in ({}, {"model": "m2"}, {"temperature": 0.1}, {"workers": 2}, {"out": "else.jsonl"}):
            assert asked(**options) == 0
        assert asked(other.url) == 0
        assert asked(fresh=True) == 6


NO_SCHEMA = {"action": "status", "status": 400, "message": "response_format of this type is not supported"}


def test_what_was_answered_before_a_server_turned_out_choosy_is_not_asked_again_in_another_form():
    """Two servers in one pool: one takes a schema, and the other says after a while that it does not."""
    prepare(30)
    choosy = {"rules": [{"when": {"first": 1}, "do": NO_SCHEMA}], "latency_s": 0.2}
    with FaultServer(latency_s=0.02) as good, FaultServer(choosy) as other:
        options = {"recipe": "expand", "n": 1, "base_urls": (good.url, other.url), "workers": 8}
        assert run("", **options).rows_out == 30
        forms = [orjson.loads(seen.body)["response_format"]["type"] for seen in good.stats.requests]
        assert set(forms) == {"json_schema", "json_object"}
        asked = len(good.stats.requests) + len(other.stats.requests)
        run("", **options)
        assert len(good.stats.requests) + len(other.stats.requests) == asked


def test_two_recipes_share_the_answers_to_what_is_the_same():
    write(Path("seeds.jsonl"), [{**row, "output": ""} for row in seeds(6)])
    with FaultServer() as server:
        store = {"store": Path("answers.sqlite")}
        assert asked_by(server, lambda: run(server.url, recipe="answer", **store)) == 6
        judged = asked_by(
            server, lambda: run(server.url, recipe="preference", values={"mode": "judged"}, out="p.jsonl", **store)
        )
        assert judged == 12  # the second answer to each, and the comparison


# ---- the store -------------------------------------------------------------------------------------------------------


def test_a_second_run_on_a_store_in_use_is_told_and_changes_nothing():
    prepare(3)
    with FaultServer() as server, AnswerStore("more.jsonl.store.sqlite") as held:
        held.ensure_writable()
        with pytest.raises(UsageError, match="another run writes into this store: process"):
            run(server.url)
        assert server.stats.requests == []
        held.close()
        assert run(server.url).rows_out == 3


def test_a_damaged_answer_is_bought_again_and_a_ruined_store_told():
    prepare(3)
    with FaultServer() as server:
        run(server.url)
        path = Path("more.jsonl.store.sqlite")
        path.write_bytes(b"SQLite format 3\x00" + bytes(4000))
        with pytest.raises(UsageError, match="store"):
            run(server.url)
        assert len(server.stats.requests) == 3
