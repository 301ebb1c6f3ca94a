"""Which trackers a run has, and what it says where one cannot be had."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from registry.errors import Interrupted, StoppedByUser, StoppedError, UsageError
from tests.trainkit.reports.conftest import report_settings
from trainkit.reports import REPORTS, Report, Reports, chosen, open_reports, status_of, unknown_reports
from trainkit.reports.base import Opening, sectioned
from trainkit.start import start


@pytest.mark.parametrize(
    ("names", "found"),
    [(("none",), ()), ((), ()), (("wandb", "WandB", "tensorboard"), ("wandb", "tensorboard"))],
)
def test_report_to_names_each_tracker_once(names: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert chosen(report_settings(*names)) == found


def test_use_swanlab_is_report_to_swanlab() -> None:
    assert chosen(report_settings("none", use_swanlab=True)) == ("swanlab",)
    assert chosen(report_settings("swanlab", use_swanlab=True)) == ("swanlab",)


def test_all_is_every_tracker_whose_package_is_there() -> None:
    kinds = {"here": Report(lambda _: None, "pytest", "1"), "gone": Report(lambda _: None, "no_such_package", "1")}  # type: ignore[arg-type,return-value]
    assert chosen(report_settings("all"), kinds) == ("here",)


def test_the_environment_switches_wandb_and_mlflow_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DISABLED", "true")
    monkeypatch.setenv("DISABLE_MLFLOW_INTEGRATION", "TRUE")
    assert chosen(report_settings("wandb", "mlflow", "tensorboard")) == ("tensorboard",)


def test_an_unknown_tracker_gets_the_nearest_name() -> None:
    (fault,) = unknown_reports(["wandbb"])
    assert 'there is no tracker "wandbb" here. Did you mean "wandb"' in fault
    assert unknown_reports([*REPORTS]) == []
    assert unknown_reports(["none", "wandb"]) == ['"report_to": "none" stands alone, or not at all']


def test_a_missing_and_an_old_package_get_one_install_line(tmp_path: Path) -> None:
    kinds = {"gone": Report(lambda _: None, "no_such_package", "1.2"), "old": Report(lambda _: None, "pytest", "999")}  # type: ignore[arg-type,return-value]
    with pytest.raises(UsageError) as raised:
        open_reports(report_settings("gone", "old"), tmp_path, {}, reports=kinds)
    assert "gone (not installed), old (" in str(raised.value)
    assert 'pip install "no_such_package>=1.2" "pytest>=999"' in str(raised.value)


def test_a_run_that_goes_on_finds_its_name_and_a_new_one_does_not(tmp_path: Path) -> None:
    seen: list[Opening] = []

    class Quiet:
        run_id = "first"

        def log(self, step: int, numbers: object) -> None: ...
        def finish(self, status: object) -> None: ...

    def open_quiet(opening: Opening) -> Quiet:
        seen.append(opening)
        return Quiet()

    kinds = {"quiet": Report(open_quiet, "pytest", "1")}
    for step in (0, 4, 0):
        with open_reports(report_settings("quiet"), tmp_path, {"hub_token": "x"}, step=step, reports=kinds):
            pass
        assert json.loads((tmp_path / "reports.json").read_text()) == {"quiet": "first"}
    assert [(o.step, o.run_id, o.values["hub_token"]) for o in seen] == [
        (0, None, "…"),
        (4, "first", "…"),
        (0, None, "…"),
    ]


def test_nobody_writes_to_stdout_while_trackers_are_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def chatty(opening: Opening) -> None:
        print("* hello")
        raise OSError

    with open_reports(report_settings("x"), tmp_path, {}, reports={"x": Report(chatty, "pytest", "1")}):  # type: ignore[arg-type]
        pass
    print("result", file=sys.stdout)
    said = capsys.readouterr()
    assert said.out == "result\n"
    assert "* hello" in said.err


def test_no_trackers_cost_nothing() -> None:
    with Reports() as reports:
        reports.log(1, {"loss": 1.0})


@pytest.mark.parametrize(
    ("kind", "status"),
    [(None, "finished"), (StoppedByUser, "stopped"), (Interrupted, "stopped"), (StoppedError, "failed")],
)
def test_how_a_run_ended(kind: type[BaseException] | None, status: str) -> None:
    assert status_of(kind) == status


def test_charts_are_those_of_the_trainer() -> None:
    assert sectioned({"eval_loss": 1.0, "rewards/margins": 2.0}) == {"eval/loss": 1.0, "train/rewards/margins": 2.0}


def test_a_missing_package_is_told_before_anything_is_read_or_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPORTS, "wandb", Report(lambda _: None, "no_such_package", "1.2"))  # type: ignore[arg-type,return-value]
    monkeypatch.setattr("trainkit.preflight.check_places", lambda _: {})
    with pytest.raises(UsageError, match=r"wandb \(not installed\)"):
        start({"model_name_or_path": "m", "report_to": "wandb"})
