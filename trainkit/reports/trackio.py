"""Trackio: a database on this machine, or a Space on the hub where ``trackio_space_id`` names one."""

from __future__ import annotations

import uuid
from typing import Any

from trainkit.reports.base import Numbers, Opening, Status, sectioned


class Trackio:
    """A run of Trackio; its ``run_id`` is the run's name, which tells it apart within the project."""

    def __init__(self, opening: Opening) -> None:
        import trackio

        self._trackio, self._keys = trackio, opening.settings
        # a name that is taken would mix two runs, so a new one gets a mark of its own
        self.run_id = opening.run_id or f"{opening.name}-{uuid.uuid4().hex[:6]}"
        self._run = trackio.init(
            project=self._keys.project,
            name=self.run_id,
            space_id=self._keys.trackio_space_id,
            bucket_id=self._keys.trackio_bucket_id,
            resume="allow",
            config=dict(opening.values),
            embed=False,
        )

    def log(self, step: int, numbers: Numbers) -> None:
        self._run.log(sectioned(numbers), step=step)

    def finish(self, status: Status) -> None:
        self._trackio.finish()
        copy = self._keys.trackio_static_space_id
        if copy and self._keys.trackio_space_id:
            # the name is Trackio's own choice where none is given
            named: dict[str, Any] = {"new_space_id": copy} if isinstance(copy, str) else {}
            self._trackio.freeze(space_id=self._keys.trackio_space_id, project=self._keys.project, **named)


def open_run(opening: Opening) -> Trackio:
    """Begin or go on with a run. Raises Trackio's own errors."""
    return Trackio(opening)
