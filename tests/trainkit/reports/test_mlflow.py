"""MLflow with a store of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainkit.reports.conftest import no_secret_in

pytest.importorskip("mlflow")


def test_both_parts_of_a_run_are_one_run_of_mlflow(
    told: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes ten seconds to lay out its tables
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "lights")
    monkeypatch.setenv("MLFLOW_TAGS", '{"keeper": "Ardh"}')
    monkeypatch.setenv("MLFLOW_FLATTEN_PARAMS", "1")
    told("mlflow", 1, 2)
    told("mlflow", 3, after=2)
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("lights")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["keeper"]) == ("lamp", "FINISHED", "Ardh")
    assert run.data.params["learning_rate"] == "0.001"
    assert (run.data.params["hf_token"], run.data.params["lr_scheduler_kwargs.power"]) == ("…", "2")
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")] == [
        (1, 1),
        (2, 0.5),
        (3, 1 / 3),
    ]
    assert no_secret_in(tmp_path / "store")
