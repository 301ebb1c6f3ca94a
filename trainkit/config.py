"""RunConfig: a run's YAML as frozen parts, each owned by what it configures; all faults of a file at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from registry.errors import Faults, UsageError, did_you_mean
from trainkit.keys import check_keys

STAGES_BUILT = ("pt", "sft", "dpo")
METHODS_BUILT = ("full", "lora")
SCHEDULES_BUILT = (
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_min_lr",
)
# What each schedule may be told in lr_scheduler_kwargs; the others take nothing.
SCHEDULE_SETTINGS = {
    "cosine": ("num_cycles",),
    "cosine_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate"),
    "polynomial": ("lr_end", "power"),
    "inverse_sqrt": ("timescale",),
}
OPTIMIZERS_BUILT = ("adamw_torch", "adamw_torch_fused")
PREF_LOSSES_BUILT = ("sigmoid",)


@dataclass(frozen=True)
class ModelConfig:
    """Which weights, and how they are loaded."""

    model_name_or_path: str
    adapter_name_or_path: tuple[str, ...] | None
    model_revision: str
    cache_dir: str | None
    trust_remote_code: bool
    flash_attn: str
    infer_dtype: str


@dataclass(frozen=True)
class DataConfig:
    """Which rows, and how they become examples. ``cutoff_len`` in tokens."""

    template: str | None
    dataset: tuple[str, ...] | None
    eval_dataset: tuple[str, ...] | None
    dataset_dir: str
    cutoff_len: int
    train_on_prompt: bool
    mask_history: bool
    max_samples: int | None
    val_size: float
    packing: bool | None
    default_system: str | None
    preprocessing_batch_size: int


@dataclass(frozen=True)
class MethodConfig:
    """Which parameters are trained."""

    finetuning_type: str
    lora_rank: int
    lora_alpha: int | None
    lora_dropout: float
    lora_target: tuple[str, ...]
    use_rslora: bool
    use_dora: bool
    additional_target: tuple[str, ...] | None
    create_new_adapter: bool


@dataclass(frozen=True)
class PreferenceConfig:
    """The preference loss. ``pref_beta`` scales the log-ratio (Rafailov et al. 2023, eq. 7)."""

    pref_beta: float
    pref_loss: str
    dpo_label_smoothing: float


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and schedule. Steps are optimizer steps; a ``warmup_steps`` below 1 is a share of them."""

    optim: str
    learning_rate: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    lr_scheduler_type: str
    lr_scheduler_kwargs: dict[str, Any] | None
    warmup_ratio: float | None
    warmup_steps: int | float


@dataclass(frozen=True)
class LoopConfig:
    """How long and in what portions; when to log, save and evaluate. A ``*_steps`` below 1 is a share of all steps."""

    per_device_train_batch_size: int
    per_device_eval_batch_size: int
    gradient_accumulation_steps: int
    num_train_epochs: float
    max_steps: int
    disable_shuffling: bool
    seed: int
    data_seed: int | None
    bf16: bool
    gradient_checkpointing: bool | None
    disable_gradient_checkpointing: bool
    use_cpu: bool
    logging_strategy: str
    logging_steps: int | float
    logging_first_step: bool
    save_strategy: str
    save_steps: int | float
    save_total_limit: int | None
    save_only_model: bool
    eval_strategy: str
    eval_steps: int | float | None

    def recompute(self, *, on_gpu: bool) -> bool:
        """Whether activations are recomputed in the backward pass; unset, as LLaMA-Factory does: on a GPU, where memory
        is what runs out first."""
        if self.gradient_checkpointing is not None:
            return self.gradient_checkpointing
        return on_gpu and not self.disable_gradient_checkpointing


@dataclass(frozen=True)
class SampleConfig:
    """How tokens are drawn in chat."""

    do_sample: bool
    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    repetition_penalty: float


@dataclass(frozen=True)
class ExportConfig:
    """Where the merged model goes. ``export_size`` in GB a file."""

    export_dir: str | None
    export_size: int


@dataclass(frozen=True)
class RunConfig:
    """Everything one run reads, resolved. ``notes`` are said once when it starts."""

    stage: str
    compat: str
    output_dir: str | None
    overwrite_output_dir: bool
    resume_from_checkpoint: bool | str | None
    do_train: bool
    do_eval: bool
    plot_loss: bool
    model: ModelConfig
    data: DataConfig
    method: MethodConfig
    preference: PreferenceConfig
    optim: OptimConfig
    loop: LoopConfig
    sample: SampleConfig
    export: ExportConfig
    source: str
    notes: tuple[str, ...] = ()

    @property
    def strict(self) -> bool:
        return self.compat == "strict"

    def fingerprint(self) -> str:
        """A hash of everything that shapes the losses: the same for two runs that may continue each other."""
        shaping = {
            k: v
            for k, v in asdict(self).items()
            if k in ("stage", "compat", "model", "data", "method", "preference", "optim")
        }
        free = ("per_device_eval_batch_size", "use_cpu", "gradient_checkpointing", "disable_gradient_checkpointing")
        shaping["loop"] = {
            k: v
            for k, v in asdict(self.loop).items()
            if k not in free and not k.startswith(("logging", "save", "eval"))
        }
        return hashlib.sha256(json.dumps(shaping, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def flat(self) -> dict[str, Any]:
        """Every resolved key and value, as it is written beside the model."""
        flat: dict[str, Any] = {}
        for key, value in asdict(self).items():
            if key not in ("source", "notes"):
                flat |= value if isinstance(value, dict) else {key: value}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in flat.items()}


PARTS = {
    "model": ModelConfig,
    "data": DataConfig,
    "method": MethodConfig,
    "preference": PreferenceConfig,
    "optim": OptimConfig,
    "loop": LoopConfig,
    "sample": SampleConfig,
    "export": ExportConfig,
}


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Read YAML or JSON (or take a mapping), apply ``key=value`` overrides, check it, build it.

    Raises ``Faults`` with every fault of keys, values and combinations together; ``UsageError`` where the file
    itself cannot be read. Nothing outside the file is looked at here: ``trainkit.preflight`` does that.
    """
    where, raw, lines, faults = _read(source)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            faults.append(f'"{override}" is no key=value')
            continue
        lines.pop(key.partition(".")[0], None)
        _override(raw, key, text, faults)
    checked = check_keys(raw, lines)
    faults += checked.faults + combination_faults(checked.values)
    if faults:
        raise Faults(where, faults)
    return _build(checked.values, where, tuple(checked.notes))


def _build(values: Mapping[str, Any], source: str, notes: tuple[str, ...]) -> RunConfig:
    parts = {name: part(**{f.name: values[f.name] for f in fields(part)}) for name, part in PARTS.items()}
    own = {f.name: values[f.name] for f in fields(RunConfig) if f.name in values and f.name not in parts}
    return RunConfig(**own, **parts, source=source, notes=notes)


def _read(source: str | Path | Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, int], list[str]]:
    if isinstance(source, Mapping):
        return "config", dict(source), {}, []
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError("no such config file", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"the config is not UTF-8: {error.reason} at byte {error.start}", where=str(path)) from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if path.suffix == ".json":
        return (str(path), *_read_json(path, text))
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise UsageError(f"not YAML: {getattr(error, 'problem', None) or error}", where=at) from None
    except (ValueError, RecursionError) as error:  # a 13th month, 5,000 digits, 1,000 brackets
        raise UsageError(f"not YAML: a value that cannot be read: {error}", where=str(path)) from None
    if not isinstance(raw, dict) or not isinstance(node, yaml.MappingNode):
        raise UsageError("a config must be a mapping of keys to values", where=str(path))
    lines: dict[str, int] = {}
    faults: list[str] = []
    for key_node, _ in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in lines:
            faults.append(f'line {line}, "{key}" is there twice (first on line {lines[key]})')
        lines[key] = line
    return str(path), raw, lines, faults


def _read_json(path: Path, text: str) -> tuple[dict[str, Any], dict[str, int], list[str]]:
    """YAML would nearly do: it knows no tab for indenting, and no pairs of surrogates."""
    faults: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        faults.extend(f'"{name}" is there twice' for name in dict.fromkeys(names) if names.count(name) > 1)
        return dict(pairs)

    try:
        raw = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise UsageError(f"not JSON: {error.msg}", where=f"{path}, line {error.lineno}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON: a value that cannot be read: {error}", where=str(path)) from None
    if not isinstance(raw, dict):
        raise UsageError("a config must be a mapping of keys to values", where=str(path))
    return raw, {}, faults


def _override(raw: dict[str, Any], key: str, text: str, faults: list[str]) -> None:
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        value = text
    *parents, last = key.split(".")
    target = raw
    for parent in parents:
        if target.get(parent) is None:
            target[parent] = {}
        target = target[parent]
        if not isinstance(target, dict):
            faults.append(f'"{key}": {parent} is no mapping')
            return
    target[last] = value


def combination_faults(v: Mapping[str, Any]) -> list[str]:
    """What does not go together, though each key is right by itself (as LLaMA-Factory 0.9.5)."""
    lora = v["finetuning_type"] == "lora"
    built = {
        "stage": STAGES_BUILT,
        "finetuning_type": METHODS_BUILT,
        "lr_scheduler_type": SCHEDULES_BUILT,
        "optim": OPTIMIZERS_BUILT,
        "pref_loss": PREF_LOSSES_BUILT,
    }
    rules = [
        (v[key] not in known, f'"{key}: {v[key]}" is not built yet; there is: {", ".join(known)}')
        for key, known in built.items()
    ]
    rules += [
        (not v["model_name_or_path"], '"model_name_or_path" is missing: name a model folder or hub id'),
        (v["do_train"] and not v["dataset"], '"dataset" is missing: name one or more datasets to train on'),
        (v["val_size"] > 0 and not v["dataset"], '"val_size" needs a "dataset" to take rows from'),
        (v["val_size"] > 0 and bool(v["eval_dataset"]), '"val_size" and "eval_dataset" exclude each other'),
        (
            (v["do_eval"] or v["eval_strategy"] != "no") and not (v["eval_dataset"] or v["val_size"]),
            'evaluation needs "eval_dataset" or "val_size"',
        ),
        (v["train_on_prompt"] and v["mask_history"], '"train_on_prompt" and "mask_history" exclude each other'),
        (v["stage"] != "sft" and v["train_on_prompt"], '"train_on_prompt" is for stage sft only'),
        (v["stage"] != "sft" and v["mask_history"], '"mask_history" is for stage sft only'),
        (
            v["stage"] != "pt" and bool(v["packing"]),
            '"packing" of whole examples is not built yet; remove the key to train padded',
        ),
        (not lora and bool(v["adapter_name_or_path"]), '"adapter_name_or_path" needs finetuning_type lora'),
        (not lora and v["use_rslora"], '"use_rslora" needs finetuning_type lora'),
        (not lora and v["use_dora"], '"use_dora" needs finetuning_type lora'),
        (
            v["stage"] == "pt" and v["cutoff_len"] < 2,
            '"cutoff_len" must be at least 2 for pt: a token is predicted from one before it',
        ),
        (v["max_steps"] == 0, '"max_steps" is 0: nothing would be trained; -1 goes by num_train_epochs'),
        (v["max_steps"] < 0 and v["num_train_epochs"] <= 0, '"num_train_epochs" must be above 0'),
        (v["save_strategy"] == "steps" and v["save_steps"] == 0, '"save_steps" must be above 0'),
        (v["logging_strategy"] == "steps" and v["logging_steps"] == 0, '"logging_steps" must be above 0'),
    ]
    rules += [(v[key] >= 1, f'"{key}" is {v[key]:g}, and must be below 1') for key in ("adam_beta1", "adam_beta2")]
    rules += [
        (v["num_train_epochs"] > 1e9, '"num_train_epochs": is too large a number'),
        (v["repetition_penalty"] == 0, '"repetition_penalty" must be above 0; 1 changes nothing'),
        (0 < v["temperature"] < 1e-5, f'"temperature" is {v["temperature"]:g}; write 0 for the likeliest token'),
    ]
    return [fault for broken, fault in rules if broken] + _schedule_faults(v)


def _schedule_faults(v: Mapping[str, Any]) -> list[str]:
    """Settings that the chosen schedule does not have, or that are no numbers it can work with."""
    known = SCHEDULE_SETTINGS.get(v["lr_scheduler_type"], ())
    faults = []
    for name, value in (v["lr_scheduler_kwargs"] or {}).items():
        if name not in known:
            there = f"it takes {', '.join(known)}. {did_you_mean(str(name), known)}" if known else "it takes none"
            faults.append(f'"lr_scheduler_kwargs": {v["lr_scheduler_type"]} has no setting "{name}"; {there}'.rstrip())
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            faults.append(f'"lr_scheduler_kwargs.{name}" must be a number of 0 or more, not {value!r}')
        elif name == "timescale" and value == 0:
            faults.append('"lr_scheduler_kwargs.timescale" must be above 0')
    return faults
