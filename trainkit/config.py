"""RunConfig: a run's YAML as frozen parts, each owned by what it configures; all faults of a file at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from registry.errors import Faults
from trainkit.config_read import read_config
from trainkit.config_rules import combination_faults, derive, unbuilt
from trainkit.keys import check_keys, key_table

# What the parts of a run's config are not: told about it, and no keys.
ABOUT = ("source", "notes", "not_built", "origins")
# Keys that change neither what is trained nor in which order. How a step's examples are cut into micro-batches is held
# against the number of processes (``trainkit.claim.kept_accumulation``).
FREE = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "per_device_eval_batch_size",
    "use_cpu",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "disable_gradient_checkpointing",
    "compute_accuracy",
    "early_stopping_steps",
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
    "eval_on_each_dataset",
    "compute_accuracy",
    "early_stopping_steps",
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
    "preprocessing_num_workers",
    "cache_path",
)


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
    adapter_folder: str | None
    quantization_bit: int | None
    quantization_method: str
    quantization_type: str
    double_quantization: bool
    upcast_layernorm: bool
    resize_vocab: bool
    add_tokens: tuple[str, ...] | None
    add_special_tokens: tuple[str, ...] | None
    new_special_tokens_config: str | None
    init_special_tokens: str
    rope_scaling: str | None


@dataclass(frozen=True)
class DataConfig:
    """Which rows, and how they become examples. ``cutoff_len`` in tokens, ``buffer_size`` in rows; ``dataset_dir`` a
    folder, ``ONLINE``, ``REMOTE:org/repo`` or entries by name; ``enable_thinking`` None is a third value, not "unset"."""

    template: str | None
    dataset: tuple[str, ...] | None
    eval_dataset: tuple[str, ...] | None
    dataset_dir: str | dict[str, Any]
    cutoff_len: int
    truncation: str
    train_on_prompt: bool
    mask_history: bool
    max_samples: int | None
    val_size: float
    eval_on_each_dataset: bool
    mix_strategy: str
    interleave_probs: tuple[float, ...] | None
    streaming: bool
    buffer_size: int
    packing: bool | None
    neat_packing: bool
    batching_strategy: str
    default_system: str | None
    tool_format: str | None
    tool_prompt_date: str | None
    enable_thinking: bool | None
    preserve_thinking: bool
    special_text: str
    tokenized_path: str | None
    cache_path: str | None
    preprocessing_batch_size: int
    preprocessing_num_workers: int | None


@dataclass(frozen=True)
class MethodConfig:
    """Which parameters are trained. ``pissa_iter`` in rounds of the fast SVD, -1 for the exact one;
    ``freeze_trainable_layers`` counts from the end, below 0 from the start."""

    finetuning_type: str
    pure_bf16: bool
    freeze_trainable_layers: int
    freeze_trainable_modules: tuple[str, ...]
    freeze_extra_modules: tuple[str, ...] | None
    use_llama_pro: bool
    lora_rank: int
    lora_alpha: int | None
    lora_dropout: float
    lora_target: tuple[str, ...]
    use_rslora: bool
    use_dora: bool
    additional_target: tuple[str, ...] | None
    create_new_adapter: bool
    loraplus_lr_ratio: float | None
    loraplus_lr_embedding: float
    pissa_init: bool
    pissa_iter: int
    pissa_convert: bool
    oft_rank: int
    oft_block_size: int
    oft_target: tuple[str, ...]
    module_dropout: float


@dataclass(frozen=True)
class PreferenceConfig:
    """The preference loss (``trainkit.stages.losses``) and what it is measured against. ``pref_beta`` scales the log-ratio
    (Rafailov et al. 2023, eq. 7)."""

    pref_beta: float
    pref_loss: str
    dpo_label_smoothing: float
    pref_ftx: float
    pref_bco_weight: float
    simpo_gamma: float
    ld_alpha: float | None
    kto_chosen_weight: float
    kto_rejected_weight: float
    ref_model: str | None
    ref_model_adapters: tuple[str, ...] | None
    ref_model_quantization_bit: int | None


@dataclass(frozen=True)
class LossConfig:
    """What answers' tokens are weighed by (``trainkit.stages.sft``), and the noise on embeddings (``trainkit.neftune``)."""

    use_dft_loss: bool
    use_asft_loss: bool
    asft_alpha: float
    use_eaft_loss: bool
    eaft_alpha: float
    neftune_noise_alpha: float | None


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and schedule. Steps are optimizer steps; a ``warmup_steps`` below 1 is a share of them. The scales of
    GaLore and APOLLO multiply the projected update (APOLLO's by its root)."""

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
    optim_args: str | None
    optim_target_modules: tuple[str, ...] | None
    use_galore: bool
    galore_target: tuple[str, ...]
    galore_rank: int
    galore_update_interval: int
    galore_scale: float
    galore_proj_type: str
    galore_layerwise: bool
    use_apollo: bool
    apollo_target: tuple[str, ...]
    apollo_rank: int
    apollo_update_interval: int
    apollo_scale: float
    apollo_proj: str
    apollo_proj_type: str
    apollo_scale_type: str
    apollo_layerwise: bool
    apollo_scale_front: bool
    use_badam: bool
    badam_mode: str
    badam_start_block: int | None
    badam_switch_mode: str | None
    badam_switch_interval: int | None
    badam_update_ratio: float
    badam_mask_mode: str
    badam_verbose: int
    use_adam_mini: bool
    use_muon: bool


@dataclass(frozen=True)
class LoopConfig:
    """How long and in what portions; when to log, save and evaluate. A ``*_steps`` below 1 is a share of all steps."""

    per_device_train_batch_size: int
    per_device_eval_batch_size: int
    gradient_accumulation_steps: int
    num_train_epochs: float
    max_steps: int
    max_skipped_steps: int
    disable_shuffling: bool
    seed: int
    data_seed: int | None
    bf16: bool
    gradient_checkpointing: bool | None
    gradient_checkpointing_kwargs: dict[str, Any] | None
    disable_gradient_checkpointing: bool
    torch_compile: bool
    torch_compile_backend: str | None
    torch_compile_mode: str | None
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
    eval_delay: int | float
    eval_on_start: bool
    compute_accuracy: bool
    early_stopping_steps: int | None
    load_best_model_at_end: bool
    metric_for_best_model: str | None
    greater_is_better: bool | None

    def recompute(self, *, on_gpu: bool) -> bool:
        """Whether activations are recomputed in the backward pass; unset, as LLaMA-Factory does: on a GPU, where memory
        is what runs out first."""
        if self.gradient_checkpointing is not None:
            return self.gradient_checkpointing
        return on_gpu and not self.disable_gradient_checkpointing


@dataclass(frozen=True)
class ReportConfig:
    """Which trackers are told the numbers of a run, and under what names. Their keys come from the environment."""

    report_to: tuple[str, ...] | None
    run_name: str | None
    logging_dir: str | None
    project: str
    trackio_space_id: str | None
    trackio_bucket_id: str | None
    trackio_static_space_id: bool | str | None
    use_swanlab: bool
    swanlab_project: str | None
    swanlab_workspace: str | None
    swanlab_run_name: str | None
    swanlab_mode: str
    swanlab_logdir: str | None


@dataclass(frozen=True)
class BackendConfig:
    """With how many processes a run computes, and what each of them holds. ``deepspeed`` a file or its content;
    ``ddp_timeout`` in seconds; ``ddp_bucket_cap_mb`` in MiB."""

    deepspeed: str | dict[str, Any] | None
    fsdp: bool | str | None
    fsdp_config: str | dict[str, Any] | None
    fsdp_transformer_layer_cls_to_wrap: tuple[str, ...] | None
    ddp_backend: str | None
    ddp_timeout: int
    ddp_find_unused_parameters: bool | None
    ddp_bucket_cap_mb: int | None
    ddp_broadcast_buffers: bool | None
    ddp_static_graph: bool | None
    data_shared_file_system: bool


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
    """Everything one run reads, resolved.

    ``notes`` are said once when it starts; ``not_built`` holds what encoding lets pass and training refuses; ``origins``
    tells of each key where its value is from: "file, line 3", "override", "flag", "given" (from Python), "default", or
    "derived from KEY".
    """

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
    loss: LossConfig
    optim: OptimConfig
    loop: LoopConfig
    report: ReportConfig
    backend: BackendConfig
    sample: SampleConfig
    export: ExportConfig
    source: str
    notes: tuple[str, ...] = ()
    not_built: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def strict(self) -> bool:
        return self.compat == "strict"

    def fingerprint(self) -> str:
        """A hash of everything that shapes the losses: the same for two runs that may continue each other."""
        parts = asdict(self)
        shaping = {k: parts[k] for k in ("stage", "compat", "model", "method", "preference", "loss", "optim")}
        shaping["data"] = {k: v for k, v in parts["data"].items() if k not in FREE}
        shaping["loop"] = {
            k: v for k, v in parts["loop"].items() if k not in FREE and not k.startswith(("logging", "save", "eval"))
        }
        return hashlib.sha256(json.dumps(shaping, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def flat(self) -> dict[str, Any]:
        """Every resolved key and value, as it is written beside the model."""
        flat: dict[str, Any] = {}
        for key, value in asdict(self).items():
            if key not in ABOUT:
                flat |= value if isinstance(value, dict) else {key: value}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in flat.items()}


PARTS = {
    "model": ModelConfig,
    "data": DataConfig,
    "method": MethodConfig,
    "preference": PreferenceConfig,
    "loss": LossConfig,
    "optim": OptimConfig,
    "loop": LoopConfig,
    "report": ReportConfig,
    "backend": BackendConfig,
    "sample": SampleConfig,
    "export": ExportConfig,
}


def load_config(
    source: str | Path | Mapping[str, Any] | None, words: Sequence[str] = (), *, training: bool = True
) -> RunConfig:
    """Read YAML or JSON (or take a mapping, or nothing), apply ``key=value`` and ``--key value`` words, check, build.

    Without ``training`` what is planned and touches no token ids is no fault: it stands in ``not_built`` of the result.
    Raises ``Faults`` with every fault of keys, values and combinations together; ``UsageError`` where the file
    itself cannot be read. Nothing outside the file is looked at here: ``trainkit.preflight`` does that.
    """
    given = read_config(source, words)
    checked = check_keys(given.raw, given.lines, training=training)
    lines = {key: given.lines[name] for key, name in checked.written.items() if name in given.lines}
    waiting = (*checked.not_built, *unbuilt(checked.values, lines))
    faults = [*given.faults, *checked.faults, *combination_faults(checked.values, lines, checked.doubtful)]
    if faults or (training and waiting):
        raise Faults(given.where, [*faults, *(waiting if training else ())])
    derived, notes = derive(checked.values)
    origins = {key: given.origins.get(checked.written.get(key, key), "default") for key in checked.values}
    table = key_table()
    for key, name in checked.written.items():
        if table[name]["status"] == "translated":
            origins[key] = f"derived from {name}"
    for key, (value, cause) in derived.items():
        checked.values[key], origins[key] = value, f"derived from {cause}"
    return _build(
        checked.values,
        source=given.where,
        notes=(*checked.notes, *notes),
        not_built=waiting,
        origins=origins,
    )


def _build(values: Mapping[str, Any], **about: Any) -> RunConfig:
    parts = {name: part(**{f.name: values[f.name] for f in fields(part)}) for name, part in PARTS.items()}
    own = {f.name: values[f.name] for f in fields(RunConfig) if f.name in values and f.name not in parts}
    return RunConfig(**own, **parts, **about)
