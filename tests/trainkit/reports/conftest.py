"""Settings of trackers that need no network, and the road of one run through one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainkit.config import ReportConfig
from trainkit.reports import open_reports

VALUES = {
    "learning_rate": 0.001,
    "lora_target": ["all"],
    "hf_token": "hf_do_not_tell",
    "lr_scheduler_kwargs": {"webhook": "https://do.not/tell", "power": 2},
}
SECRETS = (b"hf_do_not_tell", b"do.not/tell")


def report_settings(*names: str, **changes: Any) -> ReportConfig:
    """``report_to`` of these names, all else as it is by default."""
    keys: dict[str, Any] = {
        "report_to": names, "run_name": "lamp", "logging_dir": None, "project": "lights", "trackio_space_id": None,
        "trackio_bucket_id": None, "trackio_static_space_id": None, "use_swanlab": False, "swanlab_project": "lights",
        "swanlab_workspace": None, "swanlab_run_name": None, "swanlab_mode": "local", "swanlab_logdir": None,
    }  # fmt: skip
    return ReportConfig(**{**keys, **changes})


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., None]:
    """``told("wandb", 1, 2)``: a run that tells the losses 1/1 and 1/2 of steps 1 and 2 to a tracker and ends well."""

    def tell(name: str, *steps: int, after: int = 0, **changes: Any) -> None:
        with open_reports(report_settings(name, **changes), tmp_path / "out", VALUES, step=after) as reports:
            for step in steps:
                reports.log(step, {"loss": 1 / step, "eval_loss": 2 / step, "grad_norm": None})

    return tell


def no_secret_in(folder: Path) -> bool:
    """Whether no file under ``folder`` holds what must not be told."""
    held = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return bool(held) and not any(secret in content for content in held for secret in SECRETS)
