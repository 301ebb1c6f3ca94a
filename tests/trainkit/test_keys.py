"""Every key by name: it has its effect, is accepted, is refused with its reason, or is read as another key."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import trainkit
from trainkit.config import ABOUT, PARTS, RunConfig
from trainkit.keys import check_keys, coerce, key_table

TYPES = {
    "str",
    "int",
    "float",
    "bool",
    "int|float",
    "bool|str",
    "bool|words",
    "list[str]",
    "list[float]",
    "dict",
    "str|dict",
}
STATUSES = {"used", "accepted", "refused", "renamed", "translated"}
SPELLINGS = {"type", "default", "null_ok", "choices", "aliases", "min", "max", "status", "help", "why", "to", "unless"}
SPELLINGS |= {"means", "coming"}
NUMBER: dict[str, Any] = {"type": "float", "default": 5e-5, "min": 0}


def only_fault(**raw: Any) -> str:
    faults = check_keys(raw, dict.fromkeys(raw, 7)).faults
    assert len(faults) == 1
    return faults[0]


def test_every_key_of_the_table_says_all_that_a_user_must_know() -> None:
    for name, spec in key_table().items():
        assert spec["status"] in STATUSES, name
        assert set(spec) <= SPELLINGS, name
        if spec["status"] == "renamed":
            assert key_table()[spec["to"]]["status"] != "renamed", name
            continue
        assert spec["type"] in TYPES, name
        assert "default" in spec, name
        assert spec["help"], name
        assert ("why" in spec) == (spec["status"] in ("accepted", "refused")), name
        assert spec["status"] in ("accepted", "refused") or "coming" not in spec, name
        assert set(spec.get("aliases", {}).values()) <= set(spec.get("choices", ())), name
        for target, value in ((k, v) for meant in spec.get("means", {}).values() for k, v in meant.items()):
            assert coerce(target, value, key_table()[target]) == value, name
        if spec["default"] is not None:
            coerce(name, spec["default"], spec)  # a default must be a value that its own rules allow


def test_every_used_key_reaches_the_config_and_nothing_else_does() -> None:
    used = {name for name, spec in key_table().items() if spec["status"] == "used"}
    held = [name for part in PARTS.values() for name in part.__dataclass_fields__]
    held += [name for name in RunConfig.__dataclass_fields__ if name not in (*PARTS, *ABOUT)]
    assert len(held) == len(set(held))
    assert set(held) == used


def test_every_used_key_is_read_by_some_module() -> None:
    root = Path(trainkit.__file__).parent
    code = "\n".join(path.read_text("utf-8") for path in root.rglob("*.py"))
    unread = [
        name for name, spec in key_table().items() if spec["status"] == "used" and not re.search(rf"\.{name}\b", code)
    ]
    assert unread == ["quantization_method"]  # one value is built, so a rule alone looks at it


def test_every_refused_key_may_stand_at_its_default() -> None:
    for name, spec in key_table().items():
        if spec["status"] == "refused":
            for harmless in (spec["default"], None, *spec.get("unless", ())):
                assert check_keys({name: harmless}).faults == []


def test_an_unknown_key_is_refused_with_the_nearest_name_and_its_line() -> None:
    assert only_fault(learning_rat=1) == 'line 7, "learning_rat" is not a key. Did you mean "learning_rate"?'


def test_an_unknown_key_like_no_other_gets_no_guess() -> None:
    assert only_fault(xyzzy=1) == 'line 7, "xyzzy" is not a key.'


def test_a_refused_key_is_refused_with_its_reason() -> None:
    assert only_fault(fp16=True) == 'line 7, "fp16": float16 training is not built; use bf16: true, or neither for fp32'


@pytest.mark.parametrize("zero", [0, 0.0, "0", "0.0", "0e0"])
def test_a_refused_key_at_its_default_is_harmless_however_the_number_is_spelled(zero: object) -> None:
    assert check_keys({"pref_ftx": zero, "label_smoothing_factor": zero}).faults == []


def test_one_is_not_the_default_of_a_key_that_is_false() -> None:
    assert only_fault(use_unsloth="true").startswith('line 7, "use_unsloth": the unsloth loader is not built')


def test_an_accepted_key_that_is_set_is_noted_once_with_the_reason() -> None:
    checked = check_keys({"dataloader_num_workers": 4})
    assert checked.faults == []
    assert checked.notes == [
        "dataloader_num_workers has no effect here: speed of loading only; the rows are encoded before training"
    ]


def test_an_accepted_key_at_its_default_is_not_worth_a_word() -> None:
    assert check_keys({"overwrite_cache": False}).notes == []


def test_an_older_name_is_read_as_the_newer_key() -> None:
    checked = check_keys({"dpo_beta": 0.3})
    assert checked.values["pref_beta"] == 0.3
    assert checked.notes == ["dpo_beta is now called pref_beta; it is read as that"]


def test_an_older_name_beside_the_newer_one_is_a_fault() -> None:
    faults = check_keys({"evaluation_strategy": "steps", "eval_strategy": "epoch"}).faults
    assert faults == ['"evaluation_strategy" is now called "eval_strategy"']


@pytest.mark.parametrize(
    ("key", "value", "means"),
    [
        ("group_by_length", True, {"batching_strategy": "length_grouped"}),
        ("sortish_sampler", "true", {"batching_strategy": "length_grouped"}),
        ("train_sampling_strategy", "group_by_length", {"batching_strategy": "length_grouped"}),
        ("train_sampling_strategy", "batch_rebalance", {"batching_strategy": "token_balanced"}),
        ("train_sampling_strategy", "sequential", {"disable_shuffling": True}),
        ("train_sampling_strategy", "random", {}),
        ("group_by_length", False, {}),
        ("truncation", "turns", {"truncation": "turns_start"}),
        ("batching_strategy", "normal", {"batching_strategy": "plain"}),
    ],
)
def test_another_trainers_key_is_read_as_what_it_means_here(key: str, value: object, means: dict[str, object]) -> None:
    checked = check_keys({key: value})
    assert checked.faults == []
    assert checked.values == check_keys({}).values | means


@pytest.mark.parametrize(
    "other", [{"batching_strategy": "token_balanced"}, {"train_sampling_strategy": "batch_rebalance"}]
)
@pytest.mark.parametrize("turned", [False, True])
def test_two_keys_that_mean_different_things_are_a_fault(other: dict[str, str], turned: bool) -> None:
    keys = [{"group_by_length": True}, other]
    faults = check_keys({**keys[turned], **keys[not turned]}).faults
    assert len(faults) == 1
    assert "says another thing" in faults[0]


def test_two_keys_that_mean_the_same_are_none() -> None:
    assert check_keys({"group_by_length": True, "batching_strategy": "length_grouped"}).faults == []


def test_a_planned_key_waits_where_nothing_is_trained() -> None:
    checked = check_keys({"fp8": True, "use_unsloth": True}, training=False)
    assert [text.partition(":")[0] for text in checked.not_built] == ['"fp8"']
    assert [text.partition(":")[0] for text in checked.faults] == ['"use_unsloth"']


# The tables of LLaMA-Factory's arguments (data, model, finetuning, generating, evaluation, training, Megatron).
LLAMA_FACTORY = """
template dataset eval_dataset dataset_dir media_dir cutoff_len train_on_prompt mask_history streaming buffer_size mix_strategy
interleave_probs overwrite_cache preprocessing_batch_size preprocessing_num_workers max_samples eval_num_beams
ignore_pad_token_for_loss val_size eval_on_each_dataset packing neat_packing tool_format default_system enable_thinking
preserve_thinking tokenized_path data_shared_file_system
model_name_or_path adapter_name_or_path adapter_folder cache_dir model_revision use_fast_tokenizer resize_vocab
split_special_tokens add_tokens add_special_tokens new_special_tokens_config init_special_tokens low_cpu_mem_usage rope_scaling
flash_attn shift_attn mixture_of_depths use_unsloth use_unsloth_gc enable_liger_kernel moe_aux_loss_coef
disable_gradient_checkpointing use_reentrant_gc upcast_layernorm upcast_lmhead_output train_from_scratch infer_backend
offload_folder use_kv_cache use_v1_kernels infer_dtype hf_hub_token ms_hub_token om_hub_token print_param_status
trust_remote_code quantization_method quantization_bit quantization_type double_quantization quantization_device_map
image_max_pixels image_min_pixels image_do_pan_and_scan crop_to_patches video_max_pixels video_min_pixels video_fps video_maxlen
use_audio_in_video audio_sampling_rate export_dir export_size export_device export_quantization_bit export_quantization_dataset
export_quantization_nsamples export_quantization_maxlen export_legacy_format export_hub_model_id vllm_maxlen vllm_gpu_util
vllm_enforce_eager vllm_max_lora_rank vllm_config sglang_maxlen sglang_mem_fraction sglang_tp_size sglang_config
sglang_lora_backend use_kt kt_cpu_activation kt_weight_path kt_non_expert_weight_path kt_expert_checkpoint_path
kt_use_lora_experts kt_lora_expert_num kt_lora_expert_intermediate_size kt_config compute_dtype device_map model_max_length
block_diag_attn
stage finetuning_type pure_bf16 use_llama_pro use_adam_mini use_muon use_mca use_megatron_bridge use_hyper_parallel
hyper_parallel_args hyper_parallel_cp_size use_dft_loss use_asft_loss asft_alpha use_eaft_loss eaft_alpha freeze_vision_tower
freeze_multi_modal_projector freeze_language_model compute_accuracy disable_shuffling early_stopping_steps plot_loss
include_effective_tokens_per_second freeze_trainable_layers freeze_trainable_modules freeze_extra_modules lora_rank lora_alpha
lora_dropout lora_target additional_target loraplus_lr_ratio loraplus_lr_embedding use_rslora use_dora pissa_init pissa_iter
pissa_convert create_new_adapter oft_rank oft_block_size oft_target module_dropout pref_beta pref_ftx pref_bco_weight pref_loss
dpo_label_smoothing simpo_gamma ld_alpha kto_chosen_weight kto_rejected_weight ppo_buffer_size ppo_epochs ppo_score_norm
ppo_target ppo_whiten_rewards ref_model ref_model_adapters ref_model_quantization_bit reward_model reward_model_adapters
reward_model_quantization_bit reward_model_type use_galore galore_target galore_rank galore_update_interval galore_scale
galore_proj_type galore_layerwise use_apollo apollo_target apollo_rank apollo_update_interval apollo_scale apollo_proj
apollo_proj_type apollo_scale_type apollo_layerwise apollo_scale_front use_badam badam_mode badam_start_block badam_switch_mode
badam_switch_interval badam_update_ratio badam_mask_mode badam_verbose use_swanlab swanlab_project swanlab_workspace
swanlab_run_name swanlab_mode swanlab_api_key swanlab_logdir swanlab_lark_webhook_url swanlab_lark_secret
do_sample temperature top_p top_k num_beams max_length max_new_tokens repetition_penalty length_penalty skip_special_tokens
task task_dir batch_size seed lang n_shot save_dir download_mode ray_num_workers ray_init_kwargs master_addr master_port
enable_torch_profiler profiler_output_dir profiler_wait_steps profiler_warmup_steps profiler_active_steps profiler_repeat
profiler_record_shapes profiler_profile_memory profiler_with_stack profile_modules fp8 fp8_backend
fp8_enable_fsdp_float8_all_gather overwrite_output_dir
tensor_model_parallel_size pipeline_model_parallel_size expert_model_parallel_size context_parallel_size
virtual_pipeline_model_parallel_size sequence_parallel recompute_granularity recompute_method recompute_num_layers
account_for_embedding_in_pipeline_split account_for_loss_in_pipeline_split bias_activation_fusion apply_rope_fusion
masked_softmax_fusion cross_entropy_loss_fusion moe_grouped_gemm moe_token_dispatcher_type calculate_per_token_loss
use_distributed_optimizer overlap_param_gather overlap_grad_reduce use_packed_sequences mixed_precision
megatron_pretrained_checkpoint export_hf_on_finish extra_config
"""


@pytest.mark.parametrize("name", LLAMA_FACTORY.split())
def test_every_argument_of_llama_factory_is_known(name: str) -> None:
    assert name in key_table()


def test_every_argument_of_the_installed_transformers_is_known() -> None:
    from dataclasses import fields

    from transformers import Seq2SeqTrainingArguments

    assert {f.name for f in fields(Seq2SeqTrainingArguments)} - set(key_table()) == set()


@pytest.mark.parametrize(("text", "number"), [("1e-4", 1e-4), ("5", 5.0), (3, 3.0), ("1.5E2", 150.0)])
def test_a_number_without_a_dot_is_a_number(text: object, number: float) -> None:
    assert coerce("learning_rate", text, NUMBER) == number


@pytest.mark.parametrize("bad", ["fast", "", True, [1], float("nan"), "nan", -1, "-1e-4"])
def test_what_is_no_number_in_range_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"expected a number|must be at least 0"):
        coerce("learning_rate", bad, NUMBER)


def test_a_key_that_must_not_be_null_says_what_it_expects() -> None:
    with pytest.raises(ValueError, match="must not be null; expected float"):
        coerce("learning_rate", None, NUMBER)


def test_the_no_of_a_strategy_is_what_yaml_calls_false() -> None:
    assert check_keys({"eval_strategy": False, "save_strategy": False}).values["eval_strategy"] == "no"


def test_a_choice_that_is_not_there_gets_the_nearest() -> None:
    expected = 'line 7, "eval_strategy": "step" is not one of no, steps, epoch. Did you mean "steps"?'
    assert only_fault(eval_strategy="step") == expected


@pytest.mark.parametrize(("written", "read"), [("a, b", ("a", "b")), (["a", "b"], ("a", "b")), ("a", ("a",)), ([], ())])
def test_names_come_as_a_list_or_with_commas_between(written: object, read: tuple[str, ...]) -> None:
    assert coerce("dataset", written, {"type": "list[str]", "default": None}) == read


@pytest.mark.parametrize("written", [{"min_lr": 0.1}, '{"min_lr": 0.1}'])
def test_a_mapping_may_be_written_as_json_text(written: object) -> None:
    assert coerce("lr_scheduler_kwargs", written, {"type": "dict", "default": None}) == {"min_lr": 0.1}


def test_the_value_of_a_key_named_like_a_secret_is_never_echoed() -> None:
    fault = only_fault(hub_token={"value": "hf_abcdef"})
    assert "hf_abcdef" not in fault
    assert "(hidden)" in fault


def test_the_page_on_config_keys_is_what_the_table_says() -> None:
    script = Path(__file__).parents[2] / "docs" / "make_config.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
