"""`datakit augment` as it is typed: looking ahead, samples, one object of JSON, budgets, and what is told of mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datakit.augment.accounts import accounts_of
from datakit.augment.options import AugmentOptions
from datakit.augment.run import augment_rows
from registry.errors import StoppedError, UsageError
from tests.conftest import run_python
from tests.console import Ran
from tests.datakit.augment.conftest import folder
from tests.datakit.augment.runs import KEY, read, seeds, write
from tests.datakit.faults.server import FaultServer

__all__ = ["folder"]  # the fixture

THINK = ("augment", "seeds.jsonl", "-o", "more.jsonl", "--recipe", "think", "--model", "m")


@pytest.fixture
def server(folder: Path) -> Iterator[FaultServer]:
    write(folder / "seeds.jsonl", seeds(8))
    with FaultServer() as running:
        yield running


@pytest.fixture
def augment(datakit: Callable[..., Ran], server: FaultServer) -> Callable[..., Ran]:
    """``augment(MORE…)``: a run over eight seeds at the honest server."""
    return lambda *more: datakit(*THINK, "--base-url", server.url, "--near", "off", *more)


def test_a_run_writes_its_rows_and_reports_what_came_of_it(augment, server):
    ran = augment()
    assert ran.code == 0
    assert len(read("more.jsonl")) == 8
    assert "augment: 8 rows in, 8 out, 0 rejected" in ran.err
    assert "think/en@1" in ran.out
    assert len(server.stats.requests) == 8


def test_quiet_says_nothing_where_nothing_went_wrong(augment):
    ran = augment("-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_json_is_exactly_one_object(augment):
    ran = augment("--json", "--price", "1,2")
    assert ran.code == 0
    assert ran.json["command"] == "augment"
    assert (ran.json["rows_in"], ran.json["rows_out"]) == (8, 8)
    assert ran.json["calls"]["requests"] == 8
    assert ran.json["calls"]["cost"] > 0
    assert ran.json["outputs"] == ["more.jsonl"]
    assert ran.json["stopped"] is None


def test_a_dry_run_shows_three_prompts_and_what_it_would_take_and_sends_nothing(augment, server):
    ran = augment("--dry-run", "--price", "1,2")
    assert ran.code == 0
    assert re.findall(r"── prompt (\d) ──", ran.out) == ["1", "2", "3"]
    assert "How should I water the oak tree that was planted in 1700?" in ran.out
    assert "8 seeds, about 8 rows" in ran.out
    assert "8 calls: 0 answered in the store, 8 to be paid for" in ran.out
    assert re.search(r"about [\d,]+ tokens of prompts and [\d,]+ of answers", ran.out)
    assert re.search(r"about 0\.\d\d in all", ran.out)
    assert server.stats.requests == []
    assert [path.name for path in Path().iterdir()] == ["seeds.jsonl"]


def test_a_dry_run_needs_neither_an_output_nor_a_key(datakit, server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    ran = datakit("augment", "seeds.jsonl", "--recipe", "expand", "--model", "gpt-4o-mini", "--dry-run", "--json")
    assert ran.code == 0
    assert (ran.json["dry_run"], ran.json["seeds"], ran.json["calls"], ran.json["calls_to_pay"]) == (True, 8, 16, 16)
    assert ran.json["cost"] > 0
    assert len(ran.json["prompts"]) == 3


def test_after_a_run_a_dry_run_finds_all_answers(augment):
    augment()
    assert "8 calls: 8 answered in the store, 0 to be paid for" in augment("--dry-run").out


def test_a_sample_asks_for_a_few_seeds_shows_them_and_writes_no_rows(augment, server):
    ran = augment("--sample", "5")
    assert ran.code == 0
    assert len(server.stats.requests) == 5
    assert "How should I water the yew tree that was planted in 1704?" in re.sub(r"\s*\n\s*", " ", ran.out)
    assert "5 of 5 rows would be kept; the answers are in more.jsonl.store.sqlite" in ran.out
    assert not Path("more.jsonl").exists()
    augment()
    assert len(server.stats.requests) == 8  # the five are not bought again


def test_a_sample_as_json_is_one_object(augment):
    ran = augment("--sample", "2", "--json")
    assert (ran.code, len(ran.json["sample"])) == (0, 2)
    assert {"row", "kept", "reason", "detail"} == ran.json["sample"][0].keys()


def test_rows_go_to_stdout_and_nothing_else_does(datakit, server):
    ran = datakit(*THINK[:2], "-o", "-", *THINK[4:], "--base-url", server.url, "--store", "answers.sqlite")
    assert ran.code == 0
    assert [line.startswith('{"id":') for line in ran.out.splitlines()] == [True] * 8


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        (("--budget-requests", "3"), "--budget-requests is used up"),
        (("--budget-tokens", "2500"), "--budget-tokens is used up"),
        (("--budget-cost", "0.003", "--price", "1,1"), "--budget-cost is used up"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_budget_stops_with_valid_rows_and_says_how_to_go_on(augment, server, budget, told):
    ran = augment("--workers", "1", *budget)
    assert ran.code == 3
    assert told in ran.err
    assert "the same command goes on; what is answered is not asked for twice" in ran.err
    made = len(read("more.jsonl"))
    assert 1 <= made < 8
    assert made == len(server.stats.requests)
    assert augment().code == 0
    assert len(read("more.jsonl")) == len(server.stats.requests) == 8


def test_a_budget_of_time_that_is_over_asks_nothing(augment, server):
    ran = augment("--budget-minutes", "0")
    assert ran.code == 3
    assert "--budget-minutes" in ran.err
    assert server.stats.requests == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("--recipe", "expnd"), 'Did you mean "expand"?'),
        (("--recipe", "mine.md"), "no such file"),
        (("--provider", "opnai"), 'Did you mean "openai"?'),
        (("--provider", "local"), "vLLM"),
        (("--base-url", "example.com"), "Write it as http://HOST:PORT/v1"),
        (("--to", "alpca"), 'Did you mean "alpaca"?'),
        (("--from", "sharegtp"), 'Did you mean "sharegpt"?'),
        (("--structured", "xml"), "One of auto, json_schema, json_object, off."),
        (("--language", "fr"), "auto, en or zh"),
        (("--near", "very"), "off for none"),
        (("--set", "tone"), "NAME=VALUE"),
        (("--set", "tune=dry"), "tune"),
        (("--price", "cheap"), "--price 0.15,0.60"),
        (("--budget-cost", "1"), "Say so: --price IN,OUT"),
        (("--allow", "dupes"), "duplicate"),
        (("--chunk-overlap", "5000"), "cannot overlap"),
        (("--temperature", "3"), "temperature"),
        (("--n", "0"), "--n"),
        (("--sample", "0"), "--sample"),
        (("--min-score", "11"), "--min-score"),
        (("-o", "more.docx"), "Known endings"),
        (("-o", "seeds.jsonl"), "one of the sources"),
        (("-o", "-"), "--store"),
        (("--against", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--rejects", "bad.csv"), "Known endings"),
        (("--html", "report.txt"), "Known endings"),
    ],
    ids=lambda value: "=".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_told_with_a_way_out_before_anything_is_asked(augment, server, changed, told):
    ran = augment(*changed)
    assert ran.code == 2
    assert told in re.sub(r"[│╭╮╰╯─\s]+", " ", ran.err)
    assert server.stats.requests == []
    assert not Path("more.jsonl").exists()


def test_without_a_key_the_first_call_tells_where_it_is_looked_for(datakit, server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    ran = datakit(*THINK)
    assert ran.code == 2
    assert "no key to ask with" in ran.err
    assert "Set OPENAI_API_KEY" in ran.err
    (Path(".env")).write_text(f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL={server.url}\n")
    assert datakit(*THINK, "--near", "off").code == 0
    assert len(read("more.jsonl")) == 8


def test_without_an_output_the_mend_is_told(datakit, server):
    ran = datakit("augment", "seeds.jsonl", "--recipe", "think", "--model", "m", "--base-url", server.url)
    assert ran.code == 2
    assert "Name it: -o" in ran.err


def test_rows_and_the_object_cannot_both_go_to_stdout(augment):
    ran = augment("-o", "-", "--json", "--store", "a.sqlite")
    assert ran.code == 2
    assert "cannot both go to stdout" in ran.err


def test_where_rows_come_from_can_be_explained(augment, datakit):
    augment()
    ran = datakit("explain", "more.jsonl", "--row", "1")
    assert ran.code == 0
    assert "seeds.jsonl" in ran.out


def test_help_names_the_options_by_what_they_are_for_and_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from datakit.cli import main\n"
        "sys.argv = ['datakit', 'augment', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'openai', 'zhipuai', 'httpx', 'httpx2', 'jinja2', 'polars', 'numpy', 'pyarrow', 'sqlite3', 'yaml'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = run_python(code)
    assert done.stdout.strip().endswith("LOADED []"), done.stdout[-300:] + done.stderr
    for name in ("--recipe", "--budget-requests", "--dry-run", "--sample", "--store", "--judge", "--batch"):
        assert name in done.stdout


@pytest.mark.parametrize("ending", ["", ".manifest.json", ".rejects.jsonl", ".drops.jsonl"])
def test_the_store_cannot_be_a_file_that_the_run_writes(tmp_path, ending):
    (tmp_path / "s.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    out = tmp_path / "o.jsonl"
    options = AugmentOptions("expand", "m", store=tmp_path / f"o.jsonl{ending}")
    with pytest.raises(UsageError, match="cannot be the same"):
        augment_rows([tmp_path / "s.jsonl"], out, options)


def test_a_run_that_makes_nothing_leaves_the_earlier_output_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    (tmp_path / "s.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    out = tmp_path / "o.jsonl"
    out.write_text("earlier\n")
    options = AugmentOptions("expand", "m", base_urls=("http://127.0.0.1:9/v1",), attempts=1)
    with pytest.raises(StoppedError, match=r"127\.0\.0\.1:9"):
        augment_rows([tmp_path / "s.jsonl"], out, options)
    assert out.read_text() == "earlier\n"


@pytest.mark.parametrize("url", ["http://[::1", "ftp://a/v1", "http://a:b/v1"])
def test_what_is_no_address_is_told(url):
    with pytest.raises(UsageError, match="no address"):
        accounts_of("openai", [url])
