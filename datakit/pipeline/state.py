"""What a pipeline remembers between runs: each step's fingerprint, outputs and result, and the files' hashes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from datakit.pipeline.spec import Step
from datakit.pipeline.things import Hashes, Thing
from registry.atomic import write_json
from registry.manifest import tool_version

log = logging.getLogger("tunekit")

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Result:
    """What came of one step. Rows are None for steps that count none; ``stdout`` is kept where it is to be shown."""

    rows_in: int | None = None
    rows_out: int | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    note: str = ""
    seconds: float = 0.0
    stdout: str = ""

    @property
    def num_rejected(self) -> int | None:
        """Rejected rows of all reasons; None where no rows are counted."""
        return None if self.rows_in is None else sum(self.rejected.values())


@dataclass(frozen=True)
class Fingerprint:
    """All that shapes a step's result: the tool, what it was told, and the content of what it reads."""

    tool: str
    verb: str
    told: Any
    inputs: Mapping[str, str | None]


@dataclass(frozen=True)
class Record:
    """The last run of one step. ``outputs`` maps ``things`` to their hashes; of an unfinished run it is empty.

    ``owned`` says that what lies at its outputs was made by this step, and may be made anew.
    """

    complete: bool
    fingerprint: Fingerprint
    outputs: Mapping[str, str | None] = field(default_factory=dict)
    things: tuple[Thing, ...] = ()
    owned: bool = False
    result: Result = Result()


@dataclass
class State:
    """The state file of one pipeline; ``save`` writes it whole."""

    path: Path
    hashes: Hashes = field(default_factory=Hashes)
    steps: dict[str, Record] = field(default_factory=dict)

    def save(self) -> None:
        """Write the state file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.hashes.forget_what_is_gone()
        steps = {name: asdict(record) for name, record in self.steps.items()}
        write_json(self.path, {"format_version": FORMAT_VERSION, "steps": steps, "hashes": self.hashes.known})


def load_state(path: Path) -> State:
    """The state as last saved; an empty one, with a warning, where the file is of another version or damaged."""
    if not path.exists():
        return State(path)
    try:
        raw = orjson.loads(path.read_bytes())
        version = raw["format_version"]
        if version != FORMAT_VERSION:
            log.warning(
                "%s is of format version %s, not %s: it is not used, and every step runs", path, version, FORMAT_VERSION
            )
            return State(path)
        return State(path, Hashes(raw["hashes"]), {name: _record(value) for name, value in raw["steps"].items()})
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): it is not used, and every step runs", path, type(error).__name__)
        return State(path)


def _record(raw: dict[str, Any]) -> Record:
    result = Result(**{**raw["result"], "outputs": tuple(raw["result"]["outputs"])})
    things = tuple(Thing(**one) for one in raw["things"])
    return Record(raw["complete"], Fingerprint(**raw["fingerprint"]), raw["outputs"], things, raw["owned"], result)


def told_to(step: Step) -> Any:
    """What a step is told, as its fingerprint keeps it."""
    return list(step.args) if step.trainkit_verb else dict(step.options)


def match_steps(records: Mapping[str, Record], steps: Sequence[Step]) -> dict[str, Record]:
    """The records by the names that the steps have now: a step that was renamed or moved keeps its record.

    A record belongs to the step that is told the same, first of all under the same name; one that fits none keeps
    its name unless a step has taken it.
    """
    left = dict(records)
    found: dict[str, Record] = {}

    def same(record: Record, step: Step) -> bool:
        return (record.fingerprint.verb, record.fingerprint.told) == (step.verb, told_to(step))

    for step in steps:
        if step.name in left and same(left[step.name], step):
            found[step.name] = left.pop(step.name)
    for step in (step for step in steps if step.name not in found):
        name = next((name for name, record in left.items() if same(record, step)), None)
        if name is not None:
            found[step.name] = left.pop(name)
    return {**left, **found}


def fingerprint_of(step: Step, hashes: Hashes) -> Fingerprint:
    """The fingerprint of a step as things stand now."""
    inputs = {one.label: hashes.of(one) for one in step.inputs()}
    return Fingerprint(tool_version(), step.verb, told_to(step), inputs)


def hashed(things: Iterable[Thing], hashes: Hashes) -> dict[str, str | None]:
    """Each thing's label and the hash of its content now."""
    return {one.label: hashes.of(one) for one in things}


def reason_to_run(record: Record | None, now: Fingerprint, hashes: Hashes) -> str | None:
    """Why a step must run, in a few words; None where its last run still stands."""
    if record is None:
        return "never ran"
    change = _what_changed(record.fingerprint, now)
    if not record.complete:
        return "did not finish last time" + (f", and {change}" if change else "")
    if change:
        return change
    found = hashed(record.things, hashes)
    missing = [label for label, value in found.items() if value is None]
    if missing:
        return f"output missing: {_some(missing)}"
    touched = [label for label, value in found.items() if value != record.outputs.get(label)]
    return f"output changed: {_some(touched)}" if touched else None


def _what_changed(then: Fingerprint, now: Fingerprint) -> str:
    if then.tool != now.tool:
        return f"tunekit {then.tool} is now {now.tool}"
    if (then.verb, then.told) != (now.verb, now.told):
        return "options changed"
    changed = [label for label in {**then.inputs, **now.inputs} if then.inputs.get(label) != now.inputs.get(label)]
    return f"{_some(changed)} changed" if changed else ""


def _some(labels: list[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{labels[0]} and {len(labels) - 1} more"
