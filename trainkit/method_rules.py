"""What goes together in a config about which weights are trained: methods, adapters, quantised bases, the reference model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ADAPTED = ("lora", "oft")  # methods whose base stays as it is
BITS = (4, 8)
# Methods that write quantised models and do not quantise here, while loading: why, and what to do.
OFFLINE = {
    "gptq": "needs calibration data beforehand: name a model that is saved in it, and remove quantization_bit",
    "awq": "needs calibration data beforehand: name a model that is saved in it, and remove quantization_bit",
    "aqlm": "needs calibration data beforehand: name a model that is saved in it, and remove quantization_bit",
    "quanto": "is not trained on: write quantization_method: bnb",
    "eetq": "needs a GPU kernel that takes no gradient on a CPU: write quantization_method: bnb with quantization_bit: 8",
    "hqq": "is not built in: write quantization_method: bnb with quantization_bit: 4",
    "mxfp4": "is read from models that are saved in it, and widened: remove quantization_bit",
    "fp8": "is read from models that are saved in it, and widened: remove quantization_bit",
}

Rule = tuple[bool, str, str]  # broken?, the keys at fault with spaces between, what is wrong


def method_rules(v: Mapping[str, Any]) -> list[Rule]:
    """Combinations that cannot be (LLaMA-Factory 0.9.5 refuses most of them too)."""
    method = v["finetuning_type"]
    rules = [
        (method != "lora" and bool(v[key]), f"{key} finetuning_type", f'"{key}" needs finetuning_type lora')
        for key in ("use_rslora", "use_dora", "pissa_init", "loraplus_lr_ratio")
    ]
    rules += [
        (
            method not in ADAPTED and bool(v["adapter_name_or_path"]),
            "adapter_name_or_path finetuning_type",
            '"adapter_name_or_path" needs finetuning_type lora or oft; merge the adapter first to train whole weights '
            "(trainkit export)",
        ),
        (
            v["pissa_init"] and (v["stage"] in ("ppo", "kto") or bool(v["ref_model"])),
            "pissa_init stage ref_model",
            f'"pissa_init" changes the base, and {"ref_model" if v["ref_model"] else "stage " + v["stage"]} needs it as it was; '
            "remove one of the two",
        ),
        (
            bool(v["adapter_folder"]) and not v["adapter_name_or_path"],
            "adapter_folder",
            '"adapter_folder" is a folder within adapter_name_or_path, which is not set',
        ),
        (
            v["module_dropout"] >= 1 and method == "oft",
            "module_dropout",
            '"module_dropout" is 1: every block would be switched off',
        ),
        (v["lora_dropout"] >= 1 and method == "lora", "lora_dropout", '"lora_dropout" is 1: nothing would be trained'),
    ]
    return [*rules, *_layer_rules(v), *_oft_rules(v), *_quantised_rules(v), *_reference_rules(v)]


def _layer_rules(v: Mapping[str, Any]) -> list[Rule]:
    method, layers, spread = v["finetuning_type"], v["freeze_trainable_layers"], v["use_llama_pro"]
    return [
        (
            spread and method not in ("freeze", "lora"),
            "use_llama_pro finetuning_type",
            '"use_llama_pro" needs finetuning_type freeze or lora',
        ),
        (
            layers == 0 and (method == "freeze" or spread),
            "freeze_trainable_layers",
            '"freeze_trainable_layers" is 0: no layer would be trained',
        ),
        (
            spread and layers < 0,
            "freeze_trainable_layers use_llama_pro",
            f'"freeze_trainable_layers" is {layers}, and use_llama_pro needs the number of added blocks',
        ),
    ]


def _oft_rules(v: Mapping[str, Any]) -> list[Rule]:
    oft, rank, size = v["finetuning_type"] == "oft", v["oft_rank"], v["oft_block_size"]
    return [
        (
            oft and bool(rank) == bool(size),
            "oft_rank oft_block_size",
            f'"oft_rank" is {rank} and "oft_block_size" is {size}: exactly one of them must be above 0, the other follows '
            "from the size of each layer",
        ),
    ]


def _quantised_rules(v: Mapping[str, Any]) -> list[Rule]:
    bit, method = v["quantization_bit"], v["quantization_method"]
    if bit is None:
        return []
    rules = [
        (
            method != "bnb",
            "quantization_method",
            f'"quantization_method: {method}" {OFFLINE.get(method, "is not built in")}',
        ),
        (
            v["finetuning_type"] not in ADAPTED and v["do_train"],
            "quantization_bit finetuning_type",
            f'"quantization_bit" leaves nothing to train for finetuning_type {v["finetuning_type"]}; it needs lora or oft',
        ),
        (
            len(v["adapter_name_or_path"] or ()) > 1,
            "quantization_bit adapter_name_or_path",
            '"quantization_bit" takes one adapter: none can be merged into a quantised base',
        ),
        (
            bool(v["export_dir"]) and not v["do_train"],
            "quantization_bit export_dir",
            '"quantization_bit" does not go with export: adapters are merged into the base as it is saved; remove the key',
        ),
    ]
    reasons = {
        "resize_vocab": "grows weights",
        "create_new_adapter": "merges the old adapter",
        "pissa_init": "takes the adapter out of the base's weights",
    }
    return rules + [
        (bool(v[key]), f"quantization_bit {key}", f'"{key}" {why}, and those of a quantised base cannot be changed')
        for key, why in reasons.items()
    ]


def _reference_rules(v: Mapping[str, Any]) -> list[Rule]:
    return [
        (bool(v[key]) and not v["ref_model"], f"{key} ref_model", f'"{key}" is about ref_model, which is not set')
        for key in ("ref_model_adapters", "ref_model_quantization_bit")
    ]


def method_notes(v: Mapping[str, Any]) -> list[str]:
    """What a user should be told of keys that change nothing in this method."""
    notes = []
    if v["pissa_convert"] and not v["pissa_init"] and v["finetuning_type"] == "lora":
        notes.append("pissa_convert changes nothing without pissa_init")
    if v["create_new_adapter"] and not v["adapter_name_or_path"]:
        notes.append("create_new_adapter changes nothing without adapter_name_or_path")
    return notes
