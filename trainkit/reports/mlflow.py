"""MLflow: metrics and parameters of a run in the store that ``MLFLOW_TRACKING_URI`` names."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

from trainkit.reports.base import Numbers, Opening, Status

TRUE = ("1", "true", "yes", "on")
MOST_AT_ONCE = 100  # parameters in one request


class MLflow:
    """A run of MLflow by its client: no run that is active in this process is touched."""

    def __init__(self, opening: Opening) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self._metric = Metric
        self._client = MlflowClient()
        wanted = opening.run_id or os.environ.get("MLFLOW_RUN_ID")
        if wanted:
            self._client.set_terminated(wanted, "RUNNING")
            self.run_id = wanted
        else:
            tags = {"mlflow.runName": opening.name, **json.loads(os.environ.get("MLFLOW_TAGS") or "{}")}
            run = self._client.create_run(self._experiment(), tags=tags, run_name=opening.name)
            self.run_id = run.info.run_id
            self._log_values(opening)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if name is None:
            return os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
        known = self._client.get_experiment_by_name(name)
        return known.experiment_id if known else self._client.create_experiment(name)

    def _log_values(self, opening: Opening) -> None:
        from mlflow.entities import Param
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        flat = os.environ.get("MLFLOW_FLATTEN_PARAMS", "").lower() in TRUE
        values = _flattened(opening.values) if flat else dict(opening.values)
        params = [Param(_name(str(k)), str(v)) for k, v in values.items() if len(str(v)) <= MAX_PARAM_VAL_LENGTH]
        most = int(os.environ.get("MLFLOW_MAX_LOG_PARAMS") or len(params))
        for start in range(0, min(most, len(params)), MOST_AT_ONCE):
            self._client.log_batch(self.run_id, params=params[:most][start : start + MOST_AT_ONCE])

    def log(self, step: int, numbers: Numbers) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(_name(name), float(value), now, step) for name, value in numbers.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def finish(self, status: Status) -> None:
        ended = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}[status]
        self._client.set_terminated(self.run_id, ended)


def _name(name: str) -> str:
    """Without the characters that MLflow has no room for in a name."""
    return re.sub(r"[^0-9A-Za-z_\-. :/]", "_", name)


def _flattened(values: Any, before: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` → ``{"a.b": 1}``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flattened(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return found


def open_run(opening: Opening) -> MLflow:
    """Begin or go on with a run. Raises MLflow's own errors."""
    return MLflow(opening)
