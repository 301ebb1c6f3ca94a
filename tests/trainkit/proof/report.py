"""Runs the tests of all oracles and prints what came of them: python -m tests.trainkit.proof.report [NUMBER …]

For each oracle its tests, their seconds, and the largest difference that a comparison of theirs met. A difference is
|found - expected| / max(1, |expected|); comparisons that allow more than 2e-4 are about something else and do not count.
With ``--write`` the table goes into docs/proof.md, between its marks.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainkit.proof.oracles import ORACLES, PROOF, Oracle, holds

PAGE = Path(__file__).resolve().parents[3] / "docs" / "proof.md"
STRICT = 2e-4
TRL = f"{PROOF}/test_trl.py"


class Collector:
    """A pytest plugin that keeps, for each test, its outcome, its seconds and its largest difference."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.differences: dict[str, float] = {}
        self._now = ""

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._now = item.nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome

    def saw(self, difference: float, expected: float, allowed: float) -> None:
        scale = max(1.0, abs(expected))
        if allowed <= STRICT * scale and difference <= allowed:
            self.differences[self._now] = max(self.differences.get(self._now, 0.0), difference / scale)


@contextmanager
def watched(collector: Collector) -> Iterator[None]:
    """Within the block pytest.approx and torch.testing.assert_close tell how far apart was what they compared."""
    scalar = type(pytest.approx(1.0))
    equals, close = scalar.__eq__, torch.testing.assert_close

    def compared(self: Any, actual: Any) -> bool:
        if all(isinstance(value, (int, float)) for value in (actual, self.expected)):
            collector.saw(abs(actual - self.expected), self.expected, self.tolerance)
        return equals(self, actual)

    def compared_tensors(actual: Any, expected: Any, *rest: Any, **options: Any) -> None:
        close(actual, expected, *rest, **options)
        if isinstance(actual, torch.Tensor) and actual.numel() and actual.is_floating_point():
            scale = float(expected.detach().abs().max())
            allowed = options.get("atol", 1e-5) + options.get("rtol", 1.3e-6) * scale
            collector.saw(float((actual - expected).detach().abs().max()), scale, allowed)

    scalar.__eq__, torch.testing.assert_close = compared, compared_tensors  # type: ignore[method-assign]
    try:
        yield
    finally:
        scalar.__eq__, torch.testing.assert_close = equals, close  # type: ignore[method-assign]


def main(arguments: list[str]) -> int:
    """Run, print, and with ``--write`` put the tables into the page; pytest's exit code."""
    chosen = [o for o in ORACLES if not (set(arguments) - {"--write"}) or str(o.number) in arguments]
    if "--write" in arguments and len(chosen) < len(ORACLES):
        sys.exit("--write puts all oracles into docs/proof.md: name none of them")
    files = list(dict.fromkeys(test.partition("::")[0] for oracle in chosen for test in oracle.tests))
    collector = Collector()
    with watched(collector):
        options = ["-q", "-p", "no:cacheprovider", "--tb=short"]
        code = pytest.main([*files, *options], plugins=[collector, Only(chosen)])
    text = tables(chosen, collector)
    print(f"\n{text}")
    if "--write" in arguments:
        page = PAGE.read_text("utf-8")
        PAGE.write_text(re.sub(r"(?<=<!-- measured -->\n).*(?=<!-- end -->)", f"{text}\n", page, flags=re.S), "utf-8")
    return int(code)


class Only:
    """A pytest plugin that leaves out the tests of a file that no chosen oracle names."""

    def __init__(self, oracles: list[Oracle]) -> None:
        self._oracles = oracles

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if any(holds(oracle, item.nodeid) for oracle in self._oracles)]


def tables(oracles: list[Oracle], found: Collector) -> str:
    """Markdown: the oracles, and below them the courses of steps beside TRL's one by one."""
    lines = ["| | oracle | tests | skipped | seconds | largest difference |", "|---|---|---|---|---|---|"]
    for oracle in oracles:
        own = [name for name in found.outcomes if holds(oracle, name)]
        counts = [sum(found.outcomes[name] == outcome for name in own) for outcome in ("passed", "skipped", "failed")]
        tests = f"{counts[0]}" + (f", **{counts[2]} failed**" if counts[2] else "")
        seconds = sum(found.seconds[name] for name in own)
        lines.append(
            f"| {oracle.number} | {oracle.says} | {tests} | {counts[1]} | {seconds:.0f} | {largest(oracle, own, found)} |"
        )
    courses = {n: d for n, d in found.differences.items() if n.startswith(TRL)}
    if courses:
        lines += ["", "| six steps beside TRL's | largest difference |", "|---|---|"]
        lines += [f"| {name.partition('::')[2]} | {difference:.1e} |" for name, difference in courses.items()]
    return "\n".join(lines)


def largest(oracle: Oracle, tests: list[str], found: Collector) -> str:
    differences = [found.differences[name] for name in tests if name in found.differences]
    if oracle.exact:
        return "none is allowed"
    return f"{max(differences):.1e}" if differences else "not measured"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
