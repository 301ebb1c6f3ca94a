"""SwanLab: in its cloud with the key in ``SWANLAB_API_KEY``, or on this machine only."""

from __future__ import annotations

import os
import uuid

from trainkit.reports.base import Numbers, Opening, Status, sectioned


class SwanLab:
    """A run of SwanLab; a process has one at most."""

    def __init__(self, opening: Opening) -> None:
        import swanlab

        keys = opening.settings
        mode = keys.swanlab_mode
        if mode == "cloud":  # the default, so the environment may say otherwise
            mode = os.environ.get("SWANLAB_MODE", "cloud")
        known = opening.run_id or os.environ.get("SWANLAB_RUN_ID")
        self.run_id = known or uuid.uuid4().hex[:21]
        webhook = os.environ.get("SWANLAB_LARK_WEBHOOK_URL")
        callbacks = []
        if webhook:
            from swanlab.plugin.notification import LarkCallback

            callbacks.append(LarkCallback(webhook_url=webhook, secret=os.environ.get("SWANLAB_LARK_SECRET")))
        self._run = swanlab.init(
            mode={"cloud": "online"}.get(mode, mode),
            project=keys.swanlab_project or os.environ.get("SWANLAB_PROJECT"),
            workspace=keys.swanlab_workspace or os.environ.get("SWANLAB_WORKSPACE"),
            name=keys.swanlab_run_name or opening.name,
            log_dir=keys.swanlab_logdir or os.environ.get("SWANLAB_LOG_DIR") or str(opening.folder / "swanlog"),
            id=self.run_id,
            resume="allow",
            config=dict(opening.values),
            callbacks=callbacks or None,
            settings=swanlab.Settings(interactive=False),  # it would ask on the terminal for a key
        )

    def log(self, step: int, numbers: Numbers) -> None:
        self._run.log(sectioned(numbers), step=step)

    def finish(self, status: Status) -> None:
        states = {"finished": "success", "failed": "crashed", "stopped": "aborted"}
        # the reason is asked for with a crash
        self._run.finish(state=states[status], error=None if status == "finished" else f"the run {status}")


def open_run(opening: Opening) -> SwanLab:
    """Begin or go on with a run. Raises SwanLab's own errors."""
    return SwanLab(opening)
