"""What of the config does not go with the chosen backend: from the keys alone, and from the files that they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit.backends.deepspeed_config import Numbers, fill_in, left_auto, read_deepspeed, stage_of
from trainkit.backends.fsdp_config import read_fsdp

if TYPE_CHECKING:
    from trainkit.config import RunConfig

Rule = tuple[bool, str, str]  # broken?, the keys at fault with spaces between, what is wrong
# Optimizers that treat each number of a weight by itself: a share of the weight is then updated as the whole would be.
# Those that look at rows, blocks or the matrix (adafactor, 8-bit, muon, galore) would compute something else.
BY_ELEMENT = ("adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop")
WIDTHS = (
    "zero_optimization.reduce_bucket_size",
    "zero_optimization.stage3_prefetch_bucket_size",
    "zero_optimization.stage3_param_persistence_threshold",
)


def backend_rules(v: Mapping[str, Any]) -> list[Rule]:
    """The rules that need no file."""
    shares = "deepspeed" if v["deepspeed"] else "fsdp" if v["fsdp"] else None
    rules: list[Rule] = [
        (bool(v["deepspeed"] and v["fsdp"]), "deepspeed fsdp", '"deepspeed" and "fsdp" exclude each other: each shares the model'),
    ]  # fmt: skip
    if shares is None:
        return rules
    if not any(v.get(key) for key in ("use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_muon")):
        rules.append(
            (
                v["optim"] not in BY_ELEMENT,
                f"optim {shares}",
                f'"optim: {v["optim"]}" looks at whole weights, and {shares} gives each process a share; '
                f"there is: {', '.join(BY_ELEMENT)}",
            )
        )
    return rules + [
        (
            bool(v.get(key)),
            f"{key} {shares}",
            f'"{key}" looks at whole weights, and {shares} gives each process a share; remove one of the two',
        )
        for key in ("use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_muon")
    ]


def backend_faults(config: RunConfig, world_size: int | None = None) -> list[str]:
    """All that is wrong with the files and settings of DeepSpeed and FSDP; ``world_size`` None: not known yet.

    Looks at files; loads nothing.
    """
    _, faults = read_fsdp(config.backend)
    found, wrong = read_deepspeed(config.backend.deepspeed)
    faults += wrong
    if found is None:
        return faults
    filled, wrong, _ = fill_in(found, numbers_of(config, world_size))
    faults += [f'"deepspeed": {fault}' for fault in wrong]
    unknown = [key for key in left_auto(filled) if key not in WIDTHS]
    if unknown:
        faults.append(f'"deepspeed": what "auto" stands for is not known for {", ".join(unknown)}; write a value')
    if stage_of(found) == 3:
        for key, broken in zero_three_excludes(config).items():
            if broken:
                faults.append(f'"{key}" does not go with ZeRO-3 (deepspeed); use stage 2, or remove "{key}"')
    return faults


def zero_three_excludes(config: RunConfig) -> dict[str, bool]:
    """What cannot be when the weights themselves are shared (as LLaMA-Factory 0.9.5 has it)."""
    method = config.method
    return {
        "pure_bf16": bool(getattr(method, "pure_bf16", False) or getattr(config.loop, "pure_bf16", False)),
        "pissa_init": bool(getattr(method, "pissa_init", False)),
        "quantization_bit": bool(getattr(config.model, "quantization_bit", None)),
    }


def numbers_of(config: RunConfig, world_size: int | None) -> Numbers:
    """What "auto" stands for in this run."""
    loop, optim = config.loop, config.optim
    return Numbers(
        micro=loop.per_device_train_batch_size,
        accumulation=loop.gradient_accumulation_steps,
        world_size=world_size,
        learning_rate=optim.learning_rate,
        betas=(optim.adam_beta1, optim.adam_beta2),
        eps=optim.adam_epsilon,
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.max_grad_norm,
        bf16=loop.bf16,
    )
