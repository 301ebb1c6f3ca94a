"""Keys about which weights are trained that do not go together, each told with why."""

from __future__ import annotations

from typing import Any

import pytest

from trainkit.config import load_config
from trainkit.keys import check_keys
from trainkit.method_rules import method_notes, method_rules

LEAST: dict[str, Any] = {"model_name_or_path": "m", "dataset": "a", "do_train": True, "use_cpu": True}


def faults(**keys: Any) -> list[str]:
    checked = check_keys({**LEAST, **keys})
    assert checked.faults == []
    return [fault for broken, _, fault in method_rules(checked.values) if broken]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"finetuning_type": "full"},
        {"finetuning_type": "freeze"},
        {"finetuning_type": "oft"},
        {"finetuning_type": "oft", "oft_rank": 4, "oft_block_size": 0},
        {"finetuning_type": "oft", "adapter_name_or_path": "a,b"},
        {"quantization_bit": 4, "adapter_name_or_path": "a"},
        {"quantization_bit": 8, "finetuning_type": "oft"},
        {"use_llama_pro": True},
        {"pissa_init": True, "stage": "dpo"},
        {"ref_model": "m", "ref_model_adapters": "a", "ref_model_quantization_bit": 8},
        {"finetuning_type": "full", "freeze_trainable_layers": 0},
    ],
)
def test_what_goes_together(keys: dict[str, Any]) -> None:
    assert faults(**keys) == []


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"finetuning_type": "full", "use_dora": True}, '"use_dora" needs finetuning_type lora'),
        ({"finetuning_type": "oft", "use_rslora": True}, '"use_rslora" needs finetuning_type lora'),
        ({"finetuning_type": "freeze", "pissa_init": True}, '"pissa_init" needs finetuning_type lora'),
        ({"finetuning_type": "full", "loraplus_lr_ratio": 16}, '"loraplus_lr_ratio" needs finetuning_type lora'),
        ({"finetuning_type": "full", "adapter_name_or_path": "a"}, '"adapter_name_or_path" needs finetuning_type lora or oft'),
        ({"finetuning_type": "full", "use_llama_pro": True}, '"use_llama_pro" needs finetuning_type freeze or lora'),
        ({"finetuning_type": "freeze", "freeze_trainable_layers": 0}, "is 0: no layer would be trained"),
        ({"use_llama_pro": True, "freeze_trainable_layers": -2}, "is -2, and use_llama_pro needs the number of added blocks"),
        ({"finetuning_type": "oft", "oft_rank": 4}, '"oft_rank" is 4 and "oft_block_size" is 32: exactly one'),
        ({"finetuning_type": "oft", "oft_block_size": 0}, '"oft_rank" is 0 and "oft_block_size" is 0: exactly one'),
        ({"pissa_init": True, "stage": "kto"}, '"pissa_init" changes the base, and stage kto needs it as it was'),
        ({"pissa_init": True, "stage": "dpo", "ref_model": "m"}, "and ref_model needs it as it was"),
        ({"adapter_folder": "inner"}, '"adapter_folder" is a folder within adapter_name_or_path, which is not set'),
        ({"finetuning_type": "full", "quantization_bit": 4}, "leaves nothing to train for finetuning_type full"),
        ({"finetuning_type": "freeze", "quantization_bit": 4}, "leaves nothing to train for finetuning_type freeze"),
        ({"quantization_bit": 4, "resize_vocab": True}, '"resize_vocab" grows weights'),
        ({"quantization_bit": 4, "create_new_adapter": True, "adapter_name_or_path": "a"}, '"create_new_adapter" merges'),
        ({"quantization_bit": 4, "pissa_init": True}, '"pissa_init" takes the adapter out of the base'),
        ({"quantization_bit": 4, "adapter_name_or_path": "a,b"}, '"quantization_bit" takes one adapter'),
        ({"quantization_bit": 4, "do_train": False, "export_dir": "x"}, '"quantization_bit" does not go with export'),
        ({"quantization_bit": 4, "quantization_method": "hqq"}, '"quantization_method: hqq" is not built in: write'),
        ({"quantization_bit": 8, "quantization_method": "eetq"}, '"quantization_method: eetq" needs a GPU kernel'),
        ({"quantization_bit": 4, "quantization_method": "gptq"}, "needs calibration data beforehand"),
        ({"ref_model_adapters": "a"}, '"ref_model_adapters" is about ref_model, which is not set'),
        ({"ref_model_quantization_bit": 4}, '"ref_model_quantization_bit" is about ref_model, which is not set'),
        ({"lora_dropout": 1.0}, '"lora_dropout" is 1: nothing would be trained'),
        ({"finetuning_type": "oft", "module_dropout": 1.0}, '"module_dropout" is 1: every block would be switched off'),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told(keys: dict[str, Any], told: str) -> None:
    (fault,) = faults(**keys)
    assert told in fault


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("lora_rank", 0, '"lora_rank": is 0, and must be at least 1'),
        ("lora_rank", -8, '"lora_rank": is -8, and must be at least 1'),
        ("oft_rank", -1, '"oft_rank": is -1, and must be at least 0'),
        ("pissa_iter", -2, '"pissa_iter": is -2, and must be at least -1'),
        ("quantization_bit", 3, '"quantization_bit": "3" is not one of 4, 8'),
        ("quantization_type", "nf8", '"quantization_type": "nf8" is not one of nf4, fp4'),
        ("module_dropout", 1.5, '"module_dropout": is 1.5, and must be at most 1'),
    ],
)
def test_numbers_out_of_range_are_refused(key: str, value: object, told: str) -> None:
    assert told in check_keys({**LEAST, key: value}).faults[0]


def test_pure_bf16_computes_in_bf16_too() -> None:
    config = load_config({**LEAST, "pure_bf16": True})
    assert config.loop.bf16
    assert config.origins["bf16"] == "derived from pure_bf16"


def test_keys_without_effect_are_named() -> None:
    values = check_keys({**LEAST, "pissa_convert": True, "create_new_adapter": True}).values
    assert method_notes(values) == [
        "pissa_convert changes nothing without pissa_init",
        "create_new_adapter changes nothing without adapter_name_or_path",
    ]
