"""Whose is the output folder: a new run's, an unfinished run's to go on with, or somebody else's."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from registry.atomic import TEMPORARY_MARK, temporary_name, write_json
from registry.errors import UsageError, reason_of
from registry.secrets import masked
from trainkit.checkpoint import Checkpoint, is_whole, list_checkpoints, newest_checkpoint, open_checkpoint, step_of
from trainkit.config import RunConfig
from trainkit.parameters import weight_shapes
from trainkit.preflight import check_writable

log = logging.getLogger("tunekit")

RUN_FILE = "run.json"
LOCK = ".run.lock"
FORMAT_VERSION = 1
# What an older run wrote beside its weights, and the new one may not write again.
RESULT_FILES = (
    "train_results.json",
    "eval_results.json",
    "all_results.json",
    "trainer_state.json",
    "reference.safetensors",
)
# Keys that describe an adapter, which a checkpoint holds with its weights.
OF_AN_ADAPTER = (
    "lora_rank", "lora_alpha", "lora_dropout", "lora_target", "use_rslora", "use_dora", "additional_target", "pissa_init",
    "use_llama_pro", "oft_rank", "oft_block_size", "oft_target", "module_dropout",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """What a run may do with its folder: go on from ``checkpoint``, or begin."""

    folder: Path
    checkpoint: Checkpoint | None
    accumulation: int | None = (
        None  # so many micro-batches a step, where a run goes on with another number of processes
    )


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other runs out of ``folder`` (which is made) for the time of the block. Raises ``UsageError`` where one is in."""
    check_writable(folder)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder)
    except OSError as error:  # what the permissions did not tell: a read-only disk, a quota that is used up
        raise UsageError(
            f"cannot be written to: {reason_of(error)}", where=str(folder), mend="Choose another output_dir."
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # the disk may have gone read-only meanwhile; whatever ended the run is to be told
            # While it is still held: a run that was refused leaves no trace.
            Path(lock.lock_file).unlink(missing_ok=True)
            if made and not any(folder.iterdir()):
                folder.rmdir()
        lock.release()


def _locked(folder: Path) -> FileLock:
    """The folder's lock, taken. The system lets go of it when its process ends, however it ends: a killed run blocks
    nobody. Raises ``UsageError`` where another process has it."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _in_use(folder) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        log.warning("%s: this file system has no locks, so nothing keeps a second run out of the folder", folder)
    return lock


def check_free(folder: Path) -> None:
    """Raise ``UsageError`` where a run is at work in ``folder``; nothing is made or changed."""
    if not (folder / LOCK).is_file():
        return
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _in_use(folder) from None
    except (OSError, NotImplementedError):
        return
    lock.release()


def _in_use(folder: Path) -> UsageError:
    return UsageError(
        "another run is at work in this folder", where=str(folder), mend="Wait for it, or choose another output_dir."
    )


def claim_folder(config: RunConfig, *, fresh: bool, world: int = 1) -> Claim:
    """Decide by what the folder holds, for a run of ``world`` processes; nothing is changed yet.

    An unfinished run of the same config is gone on with, also under ``overwrite_output_dir`` (only ``fresh`` starts
    over). Raises ``UsageError`` where the folder holds anything else and may not be overwritten.
    """
    folder = Path(config.output_dir or "")
    check_writable(folder)
    held = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
    if isinstance(config.resume_from_checkpoint, str):
        named = open_checkpoint(Path(config.resume_from_checkpoint))
        if not named.resumable:
            raise UsageError(
                "holds no optimizer state (save_only_model), so it cannot be resumed", where=str(named.path)
            )
        if held and not config.overwrite_output_dir and named.path.parent.resolve() != folder.resolve():
            raise _not_empty(folder, held)
        before = read_record(named.path.parent) or {}
        return Claim(folder, named, kept_accumulation(config, before, world) if same_cut(config, before) else None)
    record = read_record(folder)
    may_overwrite = fresh or config.overwrite_output_dir
    if record and record["status"] == "running" and record["fingerprint"] == config.fingerprint() and not fresh:
        checkpoint = newest_checkpoint(folder)
        if checkpoint is None:
            _check_nothing_whole(folder)
            log.info("an unfinished run of this config is here, without a whole checkpoint; it starts over")
        return Claim(folder, checkpoint, kept_accumulation(config, record, world) if checkpoint else None)
    if config.resume_from_checkpoint is True and not fresh:
        raise UsageError("there is no checkpoint of this config to go on from", where=str(folder))
    if not held or may_overwrite:
        _check_nothing_needed(config, folder)
        if record is None and (folder / RUN_FILE).exists() and list_checkpoints(folder) and not fresh:
            raise UsageError(
                f"{RUN_FILE} is damaged, so whose checkpoints these are cannot be told",
                where=str(folder),
                mend="Keep what you need of them, then add --fresh to start over: it removes them.",
            )
        return Claim(folder, None)
    if record is None:
        raise _not_empty(folder, held)
    if record["fingerprint"] == config.fingerprint():
        raise UsageError(
            "a finished run of this very config is here",
            where=str(folder),
            mend="Choose another output_dir, or add --fresh to train it again.",
        )
    now, then = config.flat(), record.get("config", {})
    changed = [
        f"{k}: {then.get(k)} → {now[k]}"
        for k in now
        if now[k] != then.get(k) and k not in ("overwrite_output_dir", "output_dir")
    ]
    raise UsageError(
        f"a run of another config is here; what differs: {'; '.join(changed[:6])}",
        where=str(folder),
        mend="Choose another output_dir, or add --fresh to start over in this one.",
    )


def examples_a_step(config: RunConfig, world: int) -> int:
    """How many examples (blocks of a packed run) ``world`` processes train on in a full step."""
    return config.loop.per_device_train_batch_size * config.loop.gradient_accumulation_steps * world


def same_cut(config: RunConfig, record: Mapping[str, Any]) -> bool:
    """Whether the run of ``record`` was told to cut its steps into micro-batches as this config says."""
    then, given = record.get("config", {}), config.flat()
    return all(then.get(key) == given[key] for key in ("per_device_train_batch_size", "gradient_accumulation_steps"))


def kept_accumulation(config: RunConfig, record: Mapping[str, Any], world: int) -> int | None:
    """The ``gradient_accumulation_steps`` by which ``world`` processes train on as many examples a step as the run's first
    part did; None where the config's own does. Raises ``UsageError`` where none does."""
    before, now = record.get("examples_a_step"), examples_a_step(config, world)
    if before is None or before == now:
        return None
    if not same_cut(config, record):
        raise UsageError(
            f"a run of {before} examples a step is here, and this config makes it {now}",
            where=config.output_dir,
            mend="Choose another output_dir, or add --fresh to start over in this one.",
        )
    accumulation, rest = divmod(before, config.loop.per_device_train_batch_size * world)
    if rest or not accumulation:
        raise UsageError(
            f"the unfinished run here trains on {before} examples a step, and {world} "
            f"process{'es' if world > 1 else ''} of per_device_train_batch_size {config.loop.per_device_train_batch_size} cannot",
            where=config.output_dir,
            mend="Choose a per_device_train_batch_size that divides them, or start over with --fresh.",
        )
    log.info("gradient_accumulation_steps is %d, so that a step trains on %d examples as before", accumulation, before)
    return accumulation


def _check_nothing_needed(config: RunConfig, folder: Path) -> None:
    """Raise ``UsageError`` where the model or an adapter that a new run reads lies in the folder it would clear."""
    for needed in (config.model.model_name_or_path, *(config.model.adapter_name_or_path or ())):
        if Path(needed).exists() and Path(needed).resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"the run reads {needed}, which lies in its own output folder and would be overwritten",
                where=str(folder),
                mend="Choose another output_dir.",
            )


def _check_nothing_whole(folder: Path) -> None:
    """Raise ``UsageError`` where starting over would remove whole checkpoints that merely cannot be gone on with."""
    whole = next((p for p in list_checkpoints(folder) if is_whole(p)), None)
    if whole is not None:
        raise UsageError(
            "the unfinished run here kept models only (save_only_model), so it cannot be gone on with",
            where=str(folder),
            mend=f"Keep what you need of {whole.name}, then add --fresh to start over: it removes them.",
        )


def _not_empty(folder: Path, held: list[str]) -> UsageError:
    shown = ", ".join(held[:5]) + (" …" if len(held) > 5 else "")
    mend = "Choose another output_dir, or set overwrite_output_dir: true."
    return UsageError(f"the output folder is not empty: {shown}", where=str(folder), mend=mend)


def check_same_start(claim: Claim, config: RunConfig, digest: str) -> None:
    """Raise ``UsageError`` where the checkpoint's run was begun on other data or another base: its order and its losses
    would not go on. Another config (for a checkpoint named by the user) is only said."""
    if claim.checkpoint is None:
        return
    is_adapter = (claim.checkpoint.path / "adapter_config.json").is_file()
    wants_adapter = config.method.finetuning_type in ("lora", "oft")
    if is_adapter != wants_adapter:
        held = "an adapter" if is_adapter else "a whole model"
        raise UsageError(
            f"holds {held}, which finetuning_type: {config.method.finetuning_type} cannot go on with",
            where=str(claim.checkpoint.path),
            mend="Resume with the method that it was written with, or drop resume_from_checkpoint.",
        )
    if claim.checkpoint.state.get("data") != digest:
        check_same_shapes(claim.checkpoint.path, Path(config.model.model_name_or_path))
        raise UsageError(
            "the data or the base model has changed since the run of this checkpoint began",
            where=str(claim.checkpoint.path),
            mend="Add --fresh (and drop resume_from_checkpoint) to start over with what is there now.",
        )
    if claim.checkpoint.state.get("fingerprint") != config.fingerprint():
        if is_adapter:
            _check_same_adapter(claim.checkpoint.path, config)
        log.warning("the checkpoint is of another config: its losses go on under this one's settings")


def _check_same_adapter(checkpoint: Path, config: RunConfig) -> None:
    """Raise ``UsageError`` where the config describes another adapter than the checkpoint's, which is taken as it is."""
    then, now = (read_record(checkpoint.parent) or {}).get("config", {}), config.flat()
    changed = [f"{k}: {then[k]} → {now[k]}" for k in now if k in OF_AN_ADAPTER and then.get(k, now[k]) != now[k]]
    if changed:
        raise UsageError(
            f"its adapter was made with other settings, and stays as it is: {'; '.join(changed)}",
            where=str(checkpoint),
            mend="Write them as they were, or drop resume_from_checkpoint to train another adapter.",
        )


def check_same_shapes(checkpoint: Path, base: Path) -> None:
    """Raise ``UsageError`` naming the first tensor of a checkpoint that its base has in another shape, or not at all.

    Both are read from the heads of the files. Of an adapter, the matrices' outer sizes must be those of the layer.
    """
    there, here = weight_shapes(checkpoint, prefix="model"), weight_shapes(base)
    where, mend = str(checkpoint), f"Resume with the model that it was written for; {base} is another one."
    for name, shape in there.items() if here else ():
        if name in here and here[name] != shape:
            raise UsageError(
                f'it is of another model: "{name}" is {shape} there and {here[name]} in the base',
                where=where,
                mend=mend,
            )
    for name, shape in weight_shapes(checkpoint, prefix="adapter_model").items() if here else ():
        module, _, part = name.removeprefix("base_model.model.").partition(".lora_")
        layer = here.get(f"{module}.weight")
        axis = {"A.weight": 1, "B.weight": 0}.get(part)
        if axis is None:
            continue
        if layer is None:
            raise UsageError(f'it is of another model: the base has no "{module}"', where=where, mend=mend)
        if layer[axis] != shape[axis]:
            raise UsageError(
                f'it is of another model: "{name}" is {shape} there, for a layer of {layer} in the base',
                where=where,
                mend=mend,
            )


def check_before_end(claim: Claim, total_steps: int) -> None:
    """Raise ``UsageError`` where the checkpoint lies beyond the run's last step: nothing of this run is in it."""
    if claim.checkpoint and claim.checkpoint.step > total_steps:
        raise UsageError(
            f"the checkpoint is of step {claim.checkpoint.step}, and this run has only {total_steps}",
            where=str(claim.checkpoint.path),
            mend="Name it as model_name_or_path (or adapter_name_or_path) to train on from its weights.",
        )


def begin(claim: Claim, config: RunConfig, digest: str, total_steps: int, *, world: int = 1) -> None:
    """Make the folder this run's: checkpoints of an older run go, the record says that it is running."""
    claim.folder.mkdir(parents=True, exist_ok=True)
    for path in list_checkpoints(claim.folder):
        if claim.checkpoint is None or (path != claim.checkpoint.path and step_of(path) > claim.checkpoint.step):
            # Another run's, or later than where this one goes on. All vanish before the first is emptied, so that no
            # kill in between leaves some of them to go on from.
            path.rename(temporary_name(path))
    if claim.checkpoint is None:
        for name in (*RESULT_FILES, *(p.name for p in claim.folder.glob("training_*.png"))):
            (claim.folder / name).unlink(missing_ok=True)
    for leftover in claim.folder.glob(f".*{TEMPORARY_MARK}*"):  # what a killed run was writing
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    _write(claim, config, digest, total_steps, "running", world)


def finish(claim: Claim, config: RunConfig, digest: str, total_steps: int, *, world: int = 1) -> None:
    """Say that the run is complete."""
    _write(claim, config, digest, total_steps, "finished", world)


def _write(claim: Claim, config: RunConfig, digest: str, total_steps: int, status: str, world: int) -> None:
    # the config as the user has it: what a changed number of processes made of it is told by the examples of a step
    accumulation = claim.accumulation or config.loop.gradient_accumulation_steps
    per_step = config.loop.per_device_train_batch_size * accumulation * world
    record = {
        "format_version": FORMAT_VERSION,
        "status": status,
        "fingerprint": config.fingerprint(),
        "examples_a_step": per_step,
        "data": digest,
        "total_steps": total_steps,
        "config": masked(config.flat()),
    }
    write_json(claim.folder / RUN_FILE, record)


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of the run that this folder belongs to; None where there is none, or none that can be read."""
    try:
        record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        record = None
    if not isinstance(record, dict) or not {"format_version", "status", "fingerprint"} <= record.keys():
        log.warning("%s is damaged and not heeded", folder / RUN_FILE)
        return None
    return record if record["format_version"] == FORMAT_VERSION else None
