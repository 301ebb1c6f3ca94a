"""What a run would ask and cost, without asking: as many calls as the run then makes, and none for what is known."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from datakit.augment.foresee import Foresight, foresee
from datakit.augment.options import AugmentOptions
from datakit.augment.run import open_run
from tests.datakit.augment.runs import run, seeds, write
from tests.datakit.faults.server import FaultServer


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("OPENAI_API_KEY")  # looking ahead needs none
    write(Path("seeds.jsonl"), seeds(4))
    return folder


def ahead(url: str = "http://127.0.0.1:9/v1", src: tuple[str, ...] = ("seeds.jsonl",), **options: Any) -> Foresight:
    given = {"recipe": "think", "model": "m", "base_urls": (url,), **options}
    with ExitStack() as stack:
        return foresee(open_run(src, "more.jsonl", AugmentOptions(**given), stack, quiet=True))


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"recipe": "think"}, 4),
        ({"recipe": "answer"}, 0),
        ({"recipe": "expand", "n": 7}, 8),
        ({"recipe": "paraphrase", "n": 20}, 4),
        ({"recipe": "evolve", "n": 2}, 16),
        ({"recipe": "multi-turn"}, 4),
        ({"recipe": "translate", "values": {"to": "German"}}, 4),
        ({"recipe": "preference"}, 4),
        ({"recipe": "preference", "values": {"mode": "judged"}}, 12),
        ({"recipe": "judge"}, 4),
        ({"recipe": "expand", "n": 2, "judge": True}, 12),
        ({"recipe": "persona", "values": {"name": "A", "author": "B"}, "n": 12, "src": ()}, 12),
        ({"recipe": "self-instruct", "n": 5}, 24),
    ],
    ids=lambda value: value["recipe"] if isinstance(value, dict) else None,
)
def test_calls_are_foreseen_as_they_are_made(options, calls):
    found = ahead(**options)
    assert (found.calls, found.known) == (calls, 0)
    with FaultServer() as server:
        outcome = run(server.url, **{"src": ("seeds.jsonl",), **options})
        assert len(server.stats.requests) == calls
        assert found.rows - outcome.num_rejected == outcome.details["rows"]["made"]  # two answers may be equally good
        after = ahead(server.url, **options)
        assert (after.calls, after.known) == (outcome.details["calls"]["calls"], outcome.details["calls"]["calls"])
        assert (after.prompt_tokens, after.completion_tokens) == (0, 0)
        assert ahead(server.url, **options, fresh=True).known == 0


def test_three_prompts_are_shown_as_they_would_be_sent():
    found = ahead()
    assert len(found.prompts) == 3
    assert "oak tree that was planted in 1700" in found.prompts[0][-1][1]
    assert found.seeds == 4
    assert ahead(src=(str(write(Path("one.jsonl"), seeds(1))),)).prompts == found.prompts[:1]


def test_cost_follows_the_price_and_is_none_where_nobody_knows_it():
    assert ahead().cost is None
    found = ahead(price="1,10")
    assert found.cost == pytest.approx((found.prompt_tokens + 10 * found.completion_tokens) / 1e6)
    assert found.completion_tokens < ahead(recipe="expand", n=10, price="1,10").completion_tokens
    assert ahead(max_tokens=1).completion_tokens == 4


def test_what_was_refused_or_given_up_costs_nothing_more_unless_it_is_asked_again():
    with FaultServer("poison", latency_s=0.0) as server:
        rows = seeds(4)
        rows[2]["instruction"] += " The poison kind?"
        write(Path("seeds.jsonl"), rows)
        run(server.url)
        assert (ahead(server.url).calls, ahead(server.url).known) == (4, 4)
        assert ahead(server.url, retry_refused=True).known == 3
    Path("more.jsonl").unlink()  # which a run that makes nothing would leave alone
    with FaultServer("unparsable_always", latency_s=0.0) as server:
        run(server.url, recipe="expand", n=1)
        found = ahead(server.url, recipe="expand", n=1)
        assert (found.calls, found.known) == (4, 4)


def test_rows_that_cannot_be_read_are_counted():
    Path("seeds.jsonl").write_bytes(Path("seeds.jsonl").read_bytes() + b"no json\n")
    found = ahead()
    assert (found.seeds, found.unreadable) == (4, 1)
    assert found.as_json()["seeds_unreadable"] == 1


def test_nothing_is_written_and_nothing_asked():
    with FaultServer() as server:
        ahead(server.url)
        assert server.stats.requests == []
    assert [path.name for path in Path().iterdir()] == ["seeds.jsonl"]
