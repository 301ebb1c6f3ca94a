"""The example configs that LLaMA-Factory's users start from, written from their table: each is read and resolves, or is
refused for exactly the keys that do not train yet; none keeps its rows from being encoded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from registry.errors import Faults
from trainkit.config import load_config

FOLDER = Path(__file__).with_name("yamls")
# file -> the keys for which a run of it is refused
NOT_BUILT = {
    "extras/adam_mini/qwen2_full_sft": "",
    "extras/apollo/llama3_full_sft": "",
    "extras/asft/llama2_full_asft": "",
    "extras/asft/qwen2_full_asft": "",
    "extras/badam/llama3_full_sft": "",
    "extras/dft/qwen2_full_sft": "",
    "extras/eaft/qwen25_05b_eaft_full": "",
    "extras/fp8/llama3_fp8_deepspeed_sft": "fp8 fp8_backend",
    "extras/fp8/llama3_fp8_fsdp_sft": "fp8 fp8_backend fp8_enable_fsdp_float8_all_gather",
    "extras/fsdp_qlora/llama3_lora_sft": "",
    "extras/galore/llama3_full_sft": "",
    "extras/llama_pro/llama3_freeze_sft": "",
    "extras/loraplus/llama3_lora_sft": "",
    "extras/muon/qwen2_full_sft": "",
    "extras/nlg_eval/llama3_lora_predict": "do_predict predict_with_generate",
    "extras/oft/llama3_oft_sft": "",
    "extras/pissa/llama3_lora_sft": "",
    "inference/qwen3": "",
    "inference/qwen3_full_sft": "",
    "inference/qwen3_lora_sft": "",
    "merge_lora/qwen3_full_sft": "",
    "merge_lora/qwen3_gptq": "export_quantization_bit",
    "merge_lora/qwen3_lora_sft": "",
    "train_full/qwen3_full_sft": "",
    "train_lora/qwen3_lora_dpo": "",
    "train_lora/qwen3_lora_kto": "",
    "train_lora/qwen3_lora_pretrain": "",
    "train_lora/qwen3_lora_reward": "",
    "train_lora/qwen3_lora_sft": "",
    "train_lora/qwen3_lora_sft_ds3": "",
    "train_lora/qwen3_preprocess": "",
    "train_qlora/qwen3_lora_sft_otfq": "",
}


def test_every_example_is_told_of() -> None:
    assert {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml")} == set(NOT_BUILT)


@pytest.mark.parametrize("name", NOT_BUILT)
def test_an_example_resolves_or_is_refused_for_exactly_what_is_not_built(name: str) -> None:
    path, keys = FOLDER / f"{name}.yaml", NOT_BUILT[name].split()
    if not keys:
        assert load_config(path).not_built == ()
        return
    with pytest.raises(Faults) as caught:
        load_config(path)
    lines = path.read_text("utf-8").splitlines()
    for fault, key in zip(caught.value.faults, keys, strict=True):
        told = re.match(r'line (\d+), "(\w+)', fault)
        assert told
        assert told[2] == key
        assert lines[int(told[1]) - 1].startswith(f"{key}:")


@pytest.mark.parametrize("name", NOT_BUILT)
def test_every_example_resolves_where_nothing_is_trained(name: str) -> None:
    config = load_config(FOLDER / f"{name}.yaml", training=False)
    assert len(config.not_built) == len(NOT_BUILT[name].split())


def test_the_first_example_as_flags_is_the_same_run() -> None:
    flags = """--stage sft --do_train True --model_name_or_path Qwen/Qwen3-4B-Instruct-2507 --trust_remote_code --dataset identity,alpaca_en_demo
        --template qwen3_nothink --finetuning_type lora --lora_rank 8 --lora_target all --output_dir saves/qwen3-4b/lora/sft
        --overwrite_cache --overwrite_output_dir --cutoff_len 2048 --preprocessing_num_workers 16 --dataloader_num_workers 4
        --per_device_train_batch_size 1 --gradient_accumulation_steps 8 --lr_scheduler_type cosine --logging_steps 10
        --warmup_ratio 0.1 --save_steps 500 --learning_rate 1e-4 --num_train_epochs 3.0 --max_samples 1000 --report_to none
        --ddp_timeout 180000000 --plot_loss --bf16"""
    typed = load_config(None, flags.split())
    assert typed.flat() == load_config(FOLDER / "train_lora/qwen3_lora_sft.yaml").flat()
    assert {typed.origins[key] for key in ("stage", "learning_rate", "seed")} == {"flag", "default"}
