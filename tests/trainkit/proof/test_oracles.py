"""The list of oracles names tests that are there, and docs/proof.md tells of each."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import REPOSITORY
from tests.trainkit.proof.oracles import ORACLES, Oracle, holds
from tests.trainkit.proof.report import PAGE, Collector, tables, watched


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: str(oracle.number))
def test_every_oracle_is_held_by_tests_that_are_there(oracle: Oracle) -> None:
    for test in oracle.tests:
        file, _, beginning = test.partition("::")
        tree = ast.parse((REPOSITORY / file).read_text("utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert any(name.startswith(beginning or "test_") for name in names), test


def test_there_are_twelve_and_the_page_tells_of_each_and_of_its_files() -> None:
    page = PAGE.read_text("utf-8")
    assert [oracle.number for oracle in ORACLES] == list(range(1, 13))
    for oracle in ORACLES:
        assert f"| {oracle.number} | {oracle.says} |" in page
        for test in oracle.tests:
            assert test.partition("::")[0] in page


def test_a_report_counts_what_ran_and_keeps_the_largest_difference() -> None:
    collector = Collector()
    name = f"{ORACLES[8].tests[0]}::test_it"
    collector.outcomes, collector.seconds[name], collector._now = {name: "passed", f"{name}[2]": "skipped"}, 3.0, name
    with watched(collector):
        assert pytest.approx([1.0, 2.0], rel=1e-5) == [1.0, 2.000008]
        assert pytest.approx(1.0, rel=0.5) == 1.25  # allows too much to be about exactness
        assert pytest.approx(1.0, rel=1e-5) != 2.0
    assert "| 1 | 1 | 3 | 4.0e-06 |" in tables([ORACLES[8]], collector)
    assert holds(ORACLES[0], "tests/trainkit/test_step.py::test_sharing_rows_changes_no_loss[1]")
    assert not holds(ORACLES[0], "tests/trainkit/test_step.py::test_every_group_gets_the_rate_of_the_step")
