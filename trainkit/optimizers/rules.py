"""What does not go together in the choice of an optimizer, and what of it is not read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from registry.errors import did_you_mean
from trainkit.keys import coerce, key_table
from trainkit.optimizers.names import (
    ADAMW_TORCH,
    BNB_ADAMW_8BIT,
    GONE,
    LOMO,
    LOW_RANK,
    NUMBER,
    OPTIM_ARGS,
    READ_NO_BETAS,
    READ_NO_EPSILON,
    TRUTH,
    WHOLE,
    is_layerwise,
    read_optim_args,
)

Values = Mapping[str, Any]
Rule = tuple[bool, str, str]  # broken?, the keys at fault with spaces between, what is wrong

CHOICES = ("use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_muon")
# Which optim each of them builds on.
BASES = {
    "use_galore": (*ADAMW_TORCH, *BNB_ADAMW_8BIT, "adafactor"),
    **dict.fromkeys(("use_apollo", "use_badam", "use_adam_mini", "use_muon"), ADAMW_TORCH),
}


def optimizer_rules(v: Values) -> list[Rule]:
    """Every rule on the optimizer's keys, broken or not."""
    return [*_choice_rules(v), *_lora_plus_rules(v), *_number_rules(v), *_layerwise_rules(v), *_args_rules(v)]


def _choice_rules(v: Values) -> list[Rule]:
    chosen = [key for key in CHOICES if v[key]]
    adapter = v["finetuning_type"] in ("lora", "oft")
    rules: list[Rule] = [
        (len(chosen) > 1, " ".join(chosen), f"{' and '.join(chosen)} exclude each other: choose one optimizer"),
        (
            v["optim"] in GONE,
            "optim",
            f'"optim: {v["optim"]}" is gone from transformers; write optim: {GONE.get(v["optim"])}',
        ),
        (
            v["optim"] in LOW_RANK and not v["optim_target_modules"],
            "optim optim_target_modules",
            f'"optim: {v["optim"]}" needs "optim_target_modules": names of modules, or all-linear',
        ),
        (
            bool(v["optim_target_modules"]) and v["optim"] not in LOW_RANK,
            "optim_target_modules optim",
            '"optim_target_modules" is read by optim galore_* and apollo_* only; for use_galore write galore_target, for use_apollo apollo_target',
        ),
        (
            v["optim"] in LOW_RANK and adapter,
            "optim finetuning_type",
            f'"optim: {v["optim"]}" projects gradients of whole matrices, and {v["finetuning_type"]} trains none; use finetuning_type full or freeze',
        ),
    ]
    for key in chosen:
        rules += [
            (
                adapter and key in ("use_galore", "use_apollo", "use_badam"),
                f"{key} finetuning_type",
                f'"{key}" is for whole matrices, and {v["finetuning_type"]} trains none; use finetuning_type full or freeze',
            ),
            (
                v["optim"] not in (*BASES[key], *GONE),
                f"{key} optim",
                f'"{key}" builds on optim {", ".join(BASES[key])}, not on {v["optim"]}',
            ),
        ]
    return rules


def _lora_plus_rules(v: Values) -> list[Rule]:
    ratio = v["loraplus_lr_ratio"]
    if ratio is None:
        return []
    other = next((key for key in CHOICES if v[key]), "optim")
    whole = v["optim"] in (*LOW_RANK, *LOMO)
    return [
        (ratio <= 0, "loraplus_lr_ratio", f'"loraplus_lr_ratio" is {ratio:g}, and must be above 0; 1 gives both matrices the same rate'),
        (
            other != "optim" or whole,
            f"loraplus_lr_ratio {other}",
            f'"loraplus_lr_ratio" and {other if other != "optim" else "optim: " + v["optim"]} exclude each other: LoRA+ needs two learning rates in one optimizer',
        ),
    ]  # fmt: skip


def _number_rules(v: Values) -> list[Rule]:
    interval = v["badam_switch_interval"]
    return [
        (
            v["learning_rate"] <= 0,
            "learning_rate",
            f'"learning_rate" is {v["learning_rate"]:g}, and must be above 0: at 0 no weight moves, below it the loss climbs',
        ),
        (
            v["adam_epsilon"] <= 0 and v["optim"] not in READ_NO_EPSILON,
            "adam_epsilon",
            '"adam_epsilon" must be above 0: a weight without gradient would be divided by 0',
        ),
        (
            v["use_badam"] and v["badam_mode"] == "ratio" and not 1e-6 < v["badam_update_ratio"] <= 1,
            "badam_update_ratio",
            f'"badam_update_ratio" is {v["badam_update_ratio"]:g}, and must be above 0.000001 and at most 1',
        ),
        (
            v["use_badam"] and interval is None,
            "badam_switch_interval",
            '"badam_switch_interval" must be a number of steps',
        ),
        (
            v["use_badam"] and v["badam_switch_mode"] is None,
            "badam_switch_mode",
            '"badam_switch_mode" must be one of ascending, descending, random, fixed',
        ),
        (
            v["optim"].startswith("schedule_free") and bool(v["warmup_ratio"] or 0 < v["warmup_steps"] < 1),
            "optim warmup_ratio warmup_steps",
            f'"optim: {v["optim"]}" warms up by itself, and needs "warmup_steps" as a whole number',
        ),
    ]


def _layerwise_rules(v: Values) -> list[Rule]:
    within = [key for key in ("galore", "apollo") if v[f"use_{key}"] and v[f"{key}_layerwise"]]
    keys = [f"{key}_layerwise" for key in within] or (["optim"] if is_layerwise(v["optim"]) else [])
    named = f"optim: {v['optim']}" if keys == ["optim"] else " ".join(keys)
    return [
        (
            bool(keys) and v["gradient_accumulation_steps"] != 1,
            f"{' '.join(keys)} gradient_accumulation_steps",
            f'"{named}" updates within each backward pass, so "gradient_accumulation_steps" must be 1',
        ),
        *(
            (v[f"use_{key}"] and v[f"{key}_layerwise"] and v["optim"] in BNB_ADAMW_8BIT, f"{key}_layerwise optim", f'"{key}_layerwise" builds on optim adamw_torch or adafactor, not on {v["optim"]}')
            for key in ("galore",)
        ),
    ]  # fmt: skip


def _args_rules(v: Values) -> list[Rule]:
    try:
        given = read_optim_args(v["optim_args"])
    except ValueError as error:
        return [(True, "optim_args", f'"optim_args": {error}; write "name=value, name=value"')]
    known = OPTIM_ARGS.get(v["optim"], {})
    faults = []
    for name, value in given.items():
        if name == "weight_decay":
            faults.append('"optim_args": weight_decay is a key of its own; write it there')
        elif name not in known:
            there = f"it takes {', '.join(known)}. {did_you_mean(name, known)}" if known else "it takes none"
            faults.append(f'"optim_args": {v["optim"]} has no setting "{name}"; {there}'.rstrip())
        elif fault := _argument_fault(value, known[name]):
            faults.append(f'"optim_args": {name} must be {fault}, not {value}')
    return [(True, "optim_args optim", fault) for fault in faults]


def _argument_fault(value: str, kind: str | tuple[str, ...]) -> str | None:
    """What ``value`` should be and is not."""
    if isinstance(kind, tuple):
        return None if value in kind else f"one of {', '.join(kind)}"
    if kind == TRUTH:
        return None if value.casefold() in ("true", "false") else kind
    try:
        number = float(value)
    except ValueError:
        return kind
    right = math.isfinite(number) and (kind == NUMBER or (number == int(number) and number >= 1))
    return None if right else ("a whole number of 1 or more" if kind == WHOLE else kind)


# Keys that only one choice reads, with what is said where another was made.
READ_WITH = {"galore_": "use_galore", "apollo_": "use_apollo", "badam_": "use_badam"}


def optimizer_notes(v: Values) -> list[str]:
    """What is set and the chosen optimizer does not read: said once, as nothing is passed over in silence."""
    table = key_table()
    defaults = {
        key: spec["default"] and coerce(key, spec["default"], spec)
        for key, spec in table.items()
        if key.startswith((*READ_WITH, "adam_")) and spec["status"] == "used"
    }
    notes = [
        f"{key} is read with {choice}: true only"
        for prefix, choice in READ_WITH.items()
        for key in defaults
        if key.startswith(prefix) and not v[choice] and v[key] != defaults[key]
    ]
    plain = not any(v[key] for key in CHOICES)
    if plain or v["use_galore"]:
        unread = {"adam_beta1": READ_NO_BETAS, "adam_beta2": READ_NO_BETAS, "adam_epsilon": READ_NO_EPSILON}
        notes += [
            f"optim: {v['optim']} does not read {key}"
            for key, names in unread.items()
            if v["optim"] in names and v[key] != defaults[key]
        ]
    if plain and v["optim"] in LOMO and v["weight_decay"]:
        notes.append(f"optim: {v['optim']} does not read weight_decay")
    if v["use_badam"] and v["badam_mode"] == "ratio" and v["weight_decay"]:
        notes.append("badam_mode: ratio does not read weight_decay")
    within = is_layerwise(v["optim"]) or any(v[f"use_{key}"] and v[f"{key}_layerwise"] for key in ("galore", "apollo"))
    if within and v["max_grad_norm"] > 0:
        notes.append("max_grad_norm has no effect: layer by layer a gradient is used before the norm of all is known")
    return notes
