"""What goes together in a config: combinations that cannot be, values not built yet, and what follows from others."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from registry.errors import UsageError, did_you_mean
from trainkit.backends.rules import backend_rules
from trainkit.method_rules import method_notes, method_rules
from trainkit.optimizers.rules import optimizer_notes, optimizer_rules
from trainkit.schedule_rules import schedule_faults, schedule_notes
from trainkit.watch_rules import watch_notes, watch_rules

STAGES_BUILT = ("pt", "sft", "rm", "dpo", "kto")
STAGES_STREAMED = ("pt", "sft")
# Keys of which only some values train as yet.
BUILT = {
    "stage": STAGES_BUILT,
}

Rule = tuple[bool, str, str]  # broken?, the keys at fault with spaces between, what is wrong
Lines = Mapping[str, int]


def combination_faults(v: Mapping[str, Any], lines: Lines | None = None, doubtful: Set[str] = frozenset()) -> list[str]:
    """What does not go together, though each key is right by itself (as LLaMA-Factory 0.9.5): each fault with the
    lines of its keys. Rules on a ``doubtful`` key are passed over, as its value was not understood."""
    rules = [
        *_data_rules(v),
        *_vocabulary_rules(v),
        *_stage_rules(v),
        *method_rules(v),
        *_number_rules(v),
        *optimizer_rules(v),
        *backend_rules(v),
    ]
    rules += [*watch_rules(v), *((True, keys, fault) for keys, fault in schedule_faults(v))]
    return [
        _placed(keys.split(), fault, lines or {})
        for broken, keys, fault in rules
        if broken and doubtful.isdisjoint(keys.split())
    ]


def unbuilt(v: Mapping[str, Any], lines: Lines | None = None) -> list[str]:
    """Values that are right and do not train yet; encoding them is no fault."""
    found = [
        _placed([key], f'"{key}: {v[key]}" is not built yet; there is: {", ".join(known)}', lines or {})
        for key, known in BUILT.items()
        if v[key] not in known and v[key] != "ppo"
    ]
    return found + [_placed(keys.split(), fault, lines or {}) for broken, keys, fault in _stream_rules(v) if broken]


def _stream_rules(v: Mapping[str, Any]) -> list[Rule]:
    pt = v["stage"] == "pt"
    blocks = v["packing"] or v["neat_packing"] or (pt and v["packing"] is None)
    what, keys = ("text fills blocks", "stage") if pt else ("examples are packed", "packing neat_packing")
    return [
        (
            v["streaming"] and v["stage"] not in STAGES_STREAMED,
            "streaming stage",
            f'"streaming" is built for stages {" and ".join(STAGES_STREAMED)} only, not for {v["stage"]}; remove it',
        ),
        (
            bool(v["streaming"] and v["stage"] in STAGES_STREAMED and v["compat"] == "strict" and blocks),
            f"streaming compat {keys}",
            f'"compat: strict" with "streaming": {what} otherwise than LLaMA-Factory does it; remove one of the two',
        ),
    ]


def derive(v: Mapping[str, Any]) -> tuple[dict[str, tuple[Any, str]], list[str]]:
    """Values that follow from others: key → (value, the key it follows from); and what a user should be told of it."""
    found: dict[str, tuple[Any, str]] = {}
    notes = [*method_notes(v), *optimizer_notes(v), *schedule_notes(v)]
    if v["pure_bf16"] and not v["bf16"]:
        found["bf16"] = (True, "pure_bf16")
    if v["neat_packing"] and not v["packing"]:
        found["packing"] = (True, "neat_packing")
        if v["packing"] is False:
            notes.append("neat_packing turns packing on, though packing: false is there")
    if v["disable_shuffling"] and v["batching_strategy"] != "plain":
        found["batching_strategy"] = ("plain", "disable_shuffling")
        notes.append(
            f"disable_shuffling keeps the rows in order, so batching_strategy: {v['batching_strategy']} is off"
        )
    if v["new_special_tokens_config"] and v["add_special_tokens"]:
        found["add_special_tokens"] = (None, "new_special_tokens_config")
        notes.append("new_special_tokens_config names the special tokens, so add_special_tokens is passed over")
    if v["init_special_tokens"] != "noise_init" and not v["new_special_tokens_config"]:
        found["init_special_tokens"] = ("noise_init", "new_special_tokens_config")
        notes.append(
            f"init_special_tokens: {v['init_special_tokens']} needs the descriptions of new_special_tokens_config; "
            "new tokens begin as noise_init says"
        )
    for key in ("cache_path", "tokenized_path"):
        if str(v[key] or "").startswith("~"):
            found[key] = (str(Path(v[key]).expanduser()), key)
    packs = v["neat_packing"] or v["packing"] or (v["stage"] == "pt" and v["packing"] is None)
    if packs and v["stage"] in ("pt", "sft") and v["batching_strategy"] != "plain":
        notes.append(f"packed blocks are of one length, so batching_strategy: {v['batching_strategy']} changes nothing")
    if v["do_train"] and not (v["bf16"] or v["pure_bf16"]) and not v["use_cpu"]:
        notes.append("bf16 is off: everything is computed in fp32, which a GPU does at a fraction of its speed")
    return found, [*notes, *watch_notes(v)]


def _placed(keys: list[str], fault: str, lines: Lines) -> str:
    """``fault`` after the lines of the keys that stand in the file."""
    at = [str(line) for line in sorted({lines[key] for key in keys if key in lines})]
    if not at:
        return fault
    return f"line {at[0]}, {fault}" if len(at) == 1 else f"lines {', '.join(at[:-1])} and {at[-1]}, {fault}"


def _data_rules(v: Mapping[str, Any]) -> list[Rule]:
    evaluates = "do_eval" if v["do_eval"] else "eval_strategy"
    stream, share = v["streaming"], 0 < v["val_size"] < 1
    grouped = v["batching_strategy"] != "plain" and not v["disable_shuffling"]
    rules = [
        (not v["model_name_or_path"], "model_name_or_path", '"model_name_or_path" is missing: name a model folder or hub id'),
        (v["do_train"] and not v["dataset"], "do_train dataset", '"dataset" is missing: name one or more datasets to train on'),
        (v["val_size"] > 0 and not v["dataset"], "val_size dataset", '"val_size" needs a "dataset" to take rows from'),
        (
            v["val_size"] > 0 and bool(v["eval_dataset"]),
            "val_size eval_dataset",
            '"val_size" and "eval_dataset" exclude each other',
        ),
        (
            (v["do_eval"] or v["eval_strategy"] != "no") and not (v["eval_dataset"] or v["val_size"]),
            f"{evaluates} eval_dataset val_size",
            'evaluation needs "eval_dataset" or "val_size"',
        ),
        (stream and share, "streaming val_size", f'"val_size: {v["val_size"]:g}" is a share, and streaming does not know the number of rows; give a whole number'),
        (stream and v["max_samples"] is not None, "streaming max_samples", '"max_samples" and "streaming" exclude each other'),
        (stream and v["max_steps"] < 0, "streaming max_steps", '"streaming" needs "max_steps": the number of rows is not known beforehand'),
        (stream and grouped, "streaming batching_strategy", f'"batching_strategy: {v["batching_strategy"]}" needs all lengths beforehand, and streaming does not have them'),
    ]  # fmt: skip
    return [*rules, *_interleave_rules(v)]


def _vocabulary_rules(v: Mapping[str, Any]) -> list[Rule]:
    keys = ("resize_vocab", "add_tokens", "add_special_tokens", "new_special_tokens_config")
    return [
        (
            bool(v.get("quantization_bit") and v[key]),
            f"quantization_bit {key}",
            f'"{key}" and "quantization_bit" exclude each other: the vocabulary of a quantised model cannot grow',
        )
        for key in keys
    ]


def _interleave_rules(v: Mapping[str, Any]) -> list[Rule]:
    from trainkit.data.mixing import check_probs

    rules = []
    for key in ("dataset", "eval_dataset"):
        if v["interleave_probs"] is None or not v[key]:
            continue
        try:
            check_probs(v["interleave_probs"], len(v[key]), strategy=v["mix_strategy"])
        except UsageError as error:
            of = f" (for {key})" if key != "dataset" else ""
            rules.append(
                (True, f"interleave_probs mix_strategy {key}", f'"interleave_probs"{of}: {error.what}\n{error.mend}')
            )
    return rules[:1]  # the second would say the same


def _loss_rules(v: Mapping[str, Any]) -> list[Rule]:
    asked = [key for key in ("use_dft_loss", "use_asft_loss", "use_eaft_loss") if v[key]]
    both = " and ".join(f'"{key}"' for key in asked)
    return [
        (len(asked) > 1, " ".join(asked), f"{both} are different losses: choose one"),
        (
            bool(asked) and v["stage"] != "sft",
            f"{' '.join(asked)} stage",
            f"{both} {'is' if len(asked) == 1 else 'are'} for stage sft, not for {v['stage']}",
        ),
    ]


def _stage_rules(v: Mapping[str, Any]) -> list[Rule]:
    sft, pt = v["stage"] == "sft", v["stage"] == "pt"
    # strict shortens the blocks by one, as LLaMA-Factory does once packing is asked for
    least = (2 if pt else 1) + (1 if v["compat"] == "strict" and (v["packing"] or v["neat_packing"]) else 0)
    rules = [
        (v["stage"] == "ppo", "stage", f'"stage: ppo" is not built yet; there is: {", ".join(STAGES_BUILT)}'),
        (
            v["train_on_prompt"] and v["mask_history"],
            "train_on_prompt mask_history",
            '"train_on_prompt" and "mask_history" exclude each other',
        ),
        (
            v["dpo_label_smoothing"] > 1e-6 and v["pref_loss"] != "sigmoid",
            "dpo_label_smoothing pref_loss",
            f'"dpo_label_smoothing" is for pref_loss sigmoid only, not for {v["pref_loss"]}',
        ),
        *_preference_rules(v),
        *_recompute_rules(v),
        *_loss_rules(v),
        (
            pt and v["cutoff_len"] < 2,
            "cutoff_len stage",
            '"cutoff_len" must be at least 2 for pt: a token is predicted from one before it',
        ),
        (
            not (pt and v["cutoff_len"] < 2) and v["cutoff_len"] < least,
            "cutoff_len packing neat_packing compat",
            f'"cutoff_len" must be at least {least}: compat: strict packs into blocks one shorter',
        ),
    ]
    rules += [
        (not sft and v[key], f"{key} stage", f'"{key}" is for stage sft only')
        for key in ("train_on_prompt", "mask_history", "neat_packing")
    ]
    return rules


RECOMPUTE_SETTINGS = ("use_reentrant", "every_n_layers", "offload", "preserve_rng_state", "determinism_check", "debug")


def _recompute_rules(v: Mapping[str, Any]) -> list[Rule]:
    """Settings of activation checkpointing that neither torch nor transformers has."""
    given = v["gradient_checkpointing_kwargs"] or {}
    faults = [
        f'"gradient_checkpointing_kwargs" has no setting "{name}"; it takes {", ".join(RECOMPUTE_SETTINGS)}. '
        f"{did_you_mean(str(name), RECOMPUTE_SETTINGS)}".rstrip()
        for name in given
        if name not in RECOMPUTE_SETTINGS
    ]
    every = given.get("every_n_layers", 1)
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        faults.append(
            f'"gradient_checkpointing_kwargs.every_n_layers" must be a whole number of 1 or more, not {every!r}'
        )
    return [(True, "gradient_checkpointing_kwargs", fault) for fault in faults]


def _preference_rules(v: Mapping[str, Any]) -> list[Rule]:
    free = v["pref_loss"] in ("orpo", "simpo")
    return [
        (
            v["pref_loss"] == "ipo" and v["pref_beta"] == 0,
            "pref_beta pref_loss",
            '"pref_beta" must be above 0 for ipo: the gap that it aims at is 1 / (2 beta)',
        ),
        (
            free and v["pref_bco_weight"] > 0,
            "pref_bco_weight pref_loss",
            f'"pref_bco_weight" judges answers against a reference, and pref_loss {v["pref_loss"]} has none',
        ),
        (
            free and v["stage"] == "dpo" and bool(v["ref_model"]),
            "ref_model pref_loss",
            f'"ref_model" would not be used: pref_loss {v["pref_loss"]} has no reference',
        ),
    ]


def _number_rules(v: Mapping[str, Any]) -> list[Rule]:
    rules = [
        (v["max_steps"] == 0, "max_steps", '"max_steps" is 0: nothing would be trained; -1 goes by num_train_epochs'),
        (v["max_steps"] < 0 and v["num_train_epochs"] <= 0, "num_train_epochs", '"num_train_epochs" must be above 0'),
        (v["save_strategy"] == "steps" and v["save_steps"] == 0, "save_steps", '"save_steps" must be above 0'),
        (
            v["logging_strategy"] == "steps" and v["logging_steps"] == 0,
            "logging_steps",
            '"logging_steps" must be above 0',
        ),
        (v["num_train_epochs"] > 1e9, "num_train_epochs", '"num_train_epochs": is too large a number'),
        (v["repetition_penalty"] == 0, "repetition_penalty", '"repetition_penalty" must be above 0; 1 changes nothing'),
        (
            0 < v["temperature"] < 1e-5,
            "temperature",
            f'"temperature" is {v["temperature"]:g}; write 0 for the likeliest token',
        ),
    ]
    return rules + [
        (v[key] >= 1, key, f'"{key}" is {v[key]:g}, and must be below 1') for key in ("adam_beta1", "adam_beta2")
    ]
