"""Every file of the corpus: exit code, message, and rows in = rows out + rejected; sources untouched, nothing half-written."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

import registry.rows.json_values
import registry.rows.row
from datakit.commands.convert import convert
from datakit.commands.dedup import dedup
from datakit.commands.preview import preview
from datakit.commands.register import register
from datakit.commands.split import split
from datakit.commands.stats import stats
from datakit.commands.validate import validate
from registry.command import run_app
from tests.console import Ran, console
from tests.datakit.corpus.case import Case, Expect
from tests.datakit.corpus.make import KINDS, build

LIMITED = {"ROW_LIMIT": registry.rows.row, "CHUNK": registry.rows.json_values}
ALL = [
    pytest.param(case, id=f"{kind}-{case.name[:60]!a}".replace("\\", "~"))
    for kind, cases in KINDS.items()
    for case in cases
]


# What follows the parsing of a command line, which takes Typer ten times as long as the rest.
VERBS: dict[str, Callable[[str], object]] = {
    "convert": lambda src: convert([src], "out.jsonl", json=True),
    "validate": lambda src: validate([src], clean="out.jsonl", json=True),
    "dedup": lambda src: dedup([src], "out.jsonl", json=True),
    "split": lambda src: split([src], "out", "0.5", json=True),
    "register": lambda src: register(src, "mine", json=True),
    "preview": lambda src: preview(src, json=True),
    "stats": lambda src: stats(Path("model"), [src], json=True),
}
OTHERS = ("dedup", "split", "register", "preview", "stats")


def main() -> None:
    """The command line ``datakit VERB SRC``."""
    verb, src = sys.argv[1:]

    def call() -> None:
        try:
            VERBS[verb](src)
        except typer.Exit as end:
            sys.exit(end.exit_code)

    run_app(call, "datakit")


@pytest.fixture
def datakit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ran]:
    """``datakit(VERB, SRC)`` within ``tmp_path``, in this process."""
    return console("datakit", main, monkeypatch, capfd, tmp_path)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Case], Callable[[], bool]]:
    """Puts a case into ``tmp_path`` and lowers its limits; what comes back says whether it is as it was."""

    def prepare(case: Case) -> Callable[[], bool]:
        build(case, tmp_path)
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the time that the disk takes proves nothing here
        for name, value in case.limits.items():
            monkeypatch.setattr(LIMITED[name], name, value)
        before = contents(tmp_path)
        return lambda: {path: found for path, found in contents(tmp_path).items() if path in before} == before

    return prepare


def contents(folder: Path) -> dict[bytes, str]:
    """What each file is: its hash, or where a link leads."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[os.fsencode(path)] = f"link to {path.readlink()}"
        elif path.is_file():
            found[os.fsencode(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def check_refused(ran: Ran, case: Case, expect: Expect, tmp_path: Path, before: set[bytes]) -> None:
    assert ran.out == ""
    assert ran.err.startswith(("error:", "warning:", "reading as"))
    assert expect.says in ran.err
    assert set(contents(tmp_path)) == before, "a file was left behind"


def check_rows(told: Any, expect: Expect) -> None:
    assert (told["rows_in"], told["rows_out"]) == (expect.rows_in, expect.rows_out)
    assert told["rows_in"] == told["rows_out"] + sum(told["rejected"].values())


def check_files(tmp_path: Path, told: Any, case: Case) -> list[Any]:
    """What was written: a line a row, a line a reject, and a manifest that tells the same. Returns the rows."""
    # U+2028 and its like are no ends of lines.
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().split(b"\n")[:-1]]
    rejects_file = tmp_path / "out.jsonl.rejects.jsonl"
    rejects = (
        [json.loads(line) for line in rejects_file.read_bytes().split(b"\n")[:-1]] if rejects_file.exists() else []
    )
    assert len(written) == told["rows_out"]
    assert len(rejects) == sum(told["rejected"].values())
    for reject in rejects:
        assert reject.keys() >= {"file", "row", "field", "reason", "raw"}
        assert reject["row"] >= 1
        assert reject["reason"]
        assert isinstance(reject["raw"], str)
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_bytes())
    assert (manifest["rows_in"], manifest["rows_out"]) == (told["rows_in"], told["rows_out"])
    assert sum(manifest["rejected"].values()) == len(rejects)
    assert sum(entry["rows"] for entry in manifest["inputs"]) == told["rows_in"]
    return written


@dataclass(frozen=True)
class Judge:
    """Runs one verb on one case, and checks what holds of all verbs."""

    datakit: Callable[..., Ran]
    prepared: Any
    folder: Path

    def run(self, verb: str, case: Case, expect: Expect) -> tuple[Ran, list[Any]] | None:
        """What was told, and the rows written; None where the file was refused, as expected."""
        untouched = self.prepared(case)
        before = set(contents(self.folder))
        ran = self.datakit(verb, case.src)
        assert ran.code == expect.code, ran.err + ran.out
        assert untouched()
        if expect.code == 2:
            check_refused(ran, case, expect, self.folder, before)
            return None
        check_rows(ran.json, expect)
        return ran, check_files(self.folder, ran.json, case)


@pytest.fixture
def judge(datakit: Callable[..., Ran], prepared: Any, tmp_path: Path) -> Judge:
    return Judge(datakit, prepared, tmp_path)


@pytest.mark.parametrize("case", ALL)
def test_convert(case: Case, judge: Judge, tmp_path: Path) -> None:
    expect = case.convert
    if (found := judge.run("convert", case, expect)) is None:
        return
    ran, written = found
    reasons = (tmp_path / "out.jsonl.rejects.jsonl").read_text("utf-8") if expect.rows_out < expect.rows_in else ran.err
    assert expect.says in reasons
    if case.to_json is not None:
        assert written == list(case.to_json)


@pytest.mark.parametrize("case", ALL)
def test_validate(case: Case, judge: Judge) -> None:
    if (found := judge.run("validate", case, case.validate)) is not None:
        ran, _ = found
        assert case.validate.says in ran.out + ran.err


@pytest.mark.parametrize(
    ("verb", "case"),
    [
        pytest.param(OTHERS[n % len(OTHERS)], *each.values, id=f"{OTHERS[n % len(OTHERS)]}-{each.id}")
        for n, each in enumerate(ALL)
    ],
)
def test_the_other_verbs(
    verb: str, case: Case, datakit: Callable[..., Ran], prepared: Any, tmp_path: Path, model: Path
) -> None:
    """Each case with one of them: what cannot be read is refused by all, and no row that can be is lost by any."""
    untouched = prepared(case)
    (tmp_path / "model").symlink_to(model)
    before = set(contents(tmp_path))
    ran = datakit(verb, case.src)
    assert ran.code in ((2,) if case.convert.code == 2 and verb != "preview" else (0, 1, 2)), ran.err
    assert untouched()
    if ran.code == 2:
        assert "error: " in ran.err
        assert {path for path in set(contents(tmp_path)) - before if not path.endswith(b".lock")} == set()
    elif ran.out and "rows_in" in ran.json:
        told = ran.json
        assert told["rows_in"] == case.convert.rows_in
        assert told["rows_in"] == sum((told["rows_out"], *told["rejected"].values(), *told["filtered"].values()))
