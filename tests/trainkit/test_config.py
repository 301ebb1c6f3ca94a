"""A run's config as it is read: YAML or JSON, key=value on top, every fault of it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.errors import Faults, UsageError
from trainkit.config import load_config

LEAST: dict[str, Any] = {"model_name_or_path": "m", "dataset": "d", "do_train": True}


def written(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def faults_of(source: Any, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(Faults) as caught:
        load_config(source, overrides)
    return caught.value.faults


def test_the_least_config_gets_llama_factorys_defaults() -> None:
    config = load_config(LEAST)
    assert (config.stage, config.method.finetuning_type, config.method.lora_target) == ("sft", "lora", ("all",))
    assert (config.data.dataset, config.data.cutoff_len, config.data.packing) == (("d",), 2048, None)
    assert (config.optim.learning_rate, config.optim.lr_scheduler_type) == (5e-5, "linear")
    assert (config.loop.num_train_epochs, config.loop.max_steps, config.loop.seed) == (3.0, -1, 42)


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    yaml_file = written(tmp_path, "model_name_or_path: m\ndataset: a,b\ndo_train: true\nlearning_rate: 1e-4\n")
    keys = {"model_name_or_path": "m", "dataset": ["a", "b"], "do_train": True, "learning_rate": 0.0001}
    json_file = written(tmp_path, json.dumps(keys), "run.json")
    assert load_config(yaml_file).flat() == load_config(json_file).flat()


def test_a_rate_without_a_dot_is_a_number_though_yaml_calls_it_text(tmp_path: Path) -> None:
    path = written(tmp_path, "model_name_or_path: m\nlearning_rate: 1e-4\n")
    assert load_config(path).optim.learning_rate == 0.0001


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "\ufeffmodel_name_or_path: m\n")).model.model_name_or_path == "m"


def test_eval_strategy_no_is_not_false(tmp_path: Path) -> None:
    path = written(tmp_path, "model_name_or_path: m\neval_strategy: no\nsave_strategy: no\n")
    assert load_config(path).loop.eval_strategy == "no"


def test_all_faults_of_a_file_come_together_each_with_its_line(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "model_name_or_path: m\ndataset: d\ndo_train: true\ncutof_len: 64\nlearning_rate: fast\n"
        "cutoff_len: 0\nstage: sfft\nfp16: true\ntrain_on_prompt: true\nmask_history: true\n",
    )
    with pytest.raises(Faults) as caught:
        load_config(path, ["bf17=true"])
    assert caught.value.faults == (
        'line 4, "cutof_len" is not a key. Did you mean "cutoff_len"?',
        "line 5, \"learning_rate\": expected a number, not 'fast'",
        'line 6, "cutoff_len": is 0, and must be at least 1',
        'line 7, "stage": "sfft" is not one of pt, sft, rm, ppo, dpo, kto. Did you mean "sft"?',
        'line 8, "fp16": float16 training is not built; use bf16: true, or neither for fp32',
        '"bf17" is not a key. Did you mean "bf16"?',
        'lines 9 and 10, "train_on_prompt" and "mask_history" exclude each other',
    )
    assert str(caught.value).startswith(f"{path}: 7 faults\n  - line 4,")


def test_a_key_that_is_there_twice_is_a_fault(tmp_path: Path) -> None:
    path = written(tmp_path, "model_name_or_path: m\nseed: 1\nseed: 2\n")
    assert faults_of(path) == ('line 3, "seed" is there twice (first on line 2)',)


def test_key_value_beats_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "model_name_or_path: m\nlearning_rate: 1e-4\ndataset: a\nlora_alpha: 4\nmax_samples: 9\n")
    overrides = ["learning_rate=3e-5", "dataset=[b, c]", "lora_alpha=null", "max_samples=", "output_dir=runs/x=y"]
    config = load_config(path, overrides)
    assert config.optim.learning_rate == 3e-5
    assert config.data.dataset == ("b", "c")
    assert config.method.lora_alpha is None
    assert config.data.max_samples is None
    assert config.output_dir == "runs/x=y"


def test_a_dotted_key_reaches_into_a_mapping() -> None:
    dotted = [
        "lr_scheduler_type=cosine_with_min_lr",
        "lr_scheduler_kwargs.min_lr_rate=0.1",
        "lr_scheduler_kwargs.num_cycles=1",
    ]
    assert load_config(LEAST, dotted).optim.lr_scheduler_kwargs == {"min_lr_rate": 0.1, "num_cycles": 1}


def test_a_dotted_key_into_what_is_no_mapping_is_a_fault() -> None:
    assert faults_of({**LEAST, "seed": 3}, "seed.low=1") == ('"seed.low": seed is no mapping',)


@pytest.mark.parametrize("override", ["fast", "=3"])
def test_an_override_that_is_no_key_value_is_a_fault(override: str) -> None:
    assert faults_of(LEAST, override) == (f'"{override}" is no key=value',)


def test_an_overridden_key_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "model_name_or_path: m\ncutoff_len: 64\n")
    assert faults_of(path, "cutoff_len=0") == ('"cutoff_len": is 0, and must be at least 1',)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1\nc: 2\n", r"run\.yaml, line 3: not YAML: expected ',' or '\]'"),
        ("a: b: c\n", r"run\.yaml, line 1: not YAML: mapping values are not allowed here"),
        ("", r"run\.yaml: a config must be a mapping of keys to values"),
        ("- a\n- b\n", r"run\.yaml: a config must be a mapping of keys to values"),
        ("? [a]\n: b\n", r"run\.yaml, line 1: not YAML: "),
        ("a: !!python/object/apply:os.system [ls]\n", r"run\.yaml, line 1: not YAML: "),
    ],
)
def test_what_is_no_config_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml: no such config file"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_a_config_that_is_not_utf_8_says_where(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"seed: 1 # caf\xe9\n")
    with pytest.raises(UsageError, match=r"not UTF-8: .* at byte 13"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model_name_or_path": None}, '"model_name_or_path" is missing: name a model folder or hub id'),
        ({"dataset": None}, '"dataset" is missing: name one or more datasets to train on'),
        ({"pref_loss": "ipo", "pref_beta": 0}, '"pref_beta" must be above 0 for ipo: the gap that it aims at is 1 / (2 beta)'),
        (
            {"stage": "dpo", "pref_loss": "orpo", "pref_bco_weight": 1},
            '"pref_bco_weight" judges answers against a reference, and pref_loss orpo has none',
        ),
        (
            {"stage": "dpo", "pref_loss": "simpo", "ref_model": "r"},
            '"ref_model" would not be used: pref_loss simpo has no reference',
        ),
        ({"val_size": 0.1, "eval_dataset": "e"}, '"val_size" and "eval_dataset" exclude each other'),
        ({"eval_strategy": "steps"}, 'evaluation needs "eval_dataset" or "val_size"'),
        ({"do_eval": True}, 'evaluation needs "eval_dataset" or "val_size"'),
        ({"stage": "pt", "mask_history": True}, '"mask_history" is for stage sft only'),
        ({"stage": "dpo", "train_on_prompt": True}, '"train_on_prompt" is for stage sft only'),
        ({"stage": "ppo"}, '"stage: ppo" is not built yet; there is: pt, sft, rm, dpo, kto'),
        ({"stage": "dpo", "neat_packing": True}, '"neat_packing" is for stage sft only'),
        ({"streaming": True}, '"streaming" needs "max_steps": the number of rows is not known beforehand'),
        (
            {"streaming": True, "max_steps": 9, "max_samples": 5},
            '"max_samples" and "streaming" exclude each other',
        ),
        (
            {"streaming": True, "max_steps": 9, "val_size": 0.1},
            '"val_size: 0.1" is a share, and streaming does not know the number of rows; give a whole number',
        ),
        (
            {"streaming": True, "max_steps": 9, "batching_strategy": "length_grouped"},
            '"batching_strategy: length_grouped" needs all lengths beforehand, and streaming does not have them',
        ),
        (
            {"cutoff_len": 2, "stage": "pt", "packing": True, "compat": "strict"},
            '"cutoff_len" must be at least 3: compat: strict packs into blocks one shorter',
        ),
        ({"truncation": "splt"}, '"truncation": "splt" is not one of split, drop, left, turns_start, turns_end. Did you mean "split"?'),
        ({"interleave_probs": "0.5,x"}, '"interleave_probs": expected numbers with commas between, not \'0.5,x\''),
        ({"ignore_pad_token_for_loss": False}, '"ignore_pad_token_for_loss": padding never counts in the loss; remove the key'),
        ({"finetuning_type": "full", "adapter_name_or_path": "a"}, '"adapter_name_or_path" needs finetuning_type lora or oft; merge the adapter first to train whole weights (trainkit export)'),
        ({"finetuning_type": "full", "use_dora": True}, '"use_dora" needs finetuning_type lora'),
        ({"max_steps": 0}, '"max_steps" is 0: nothing would be trained; -1 goes by num_train_epochs'),
        ({"num_train_epochs": 0}, '"num_train_epochs" must be above 0'),
        ({"save_steps": 0}, '"save_steps" must be above 0'),
        ({"logging_steps": 0}, '"logging_steps" must be above 0'),
        ({"cutoff_len": 0}, '"cutoff_len": is 0, and must be at least 1'),
        ({"cutoff_len": 64.5}, '"cutoff_len": expected a whole number, not 64.5'),
        ({"top_p": 1.5}, '"top_p": is 1.5, and must be at most 1'),
        ({"do_train": "perhaps"}, "\"do_train\": expected true or false, not 'perhaps'"),
        ({"eval_dataset": {"a": 1}}, "\"eval_dataset\": expected names with commas between, not {'a': 1}"),
        ({"seed": None}, '"seed": must not be null; expected int'),
    ],
)  # fmt: skip
def test_what_does_not_hold_or_does_not_go_together_is_refused(changes: dict[str, Any], fault: str) -> None:
    assert faults_of({**LEAST, **changes}) == (fault,)


SHAPING = {
    "stage": "pt", "compat": "strict", "model_name_or_path": "other", "dataset": "e", "template": "qwen", "cutoff_len": 64,
    "val_size": 0.5, "max_samples": 3, "mask_history": True, "finetuning_type": "full", "lora_rank": 4, "lora_dropout": 0.1,
    "learning_rate": 0.5, "weight_decay": 0.1, "max_grad_norm": 0.5, "warmup_ratio": 0.1, "lr_scheduler_type": "cosine",
    "num_train_epochs": 1, "max_steps": 5, "seed": 1,
    "data_seed": 1, "disable_shuffling": True, "bf16": True, "pref_beta": 0.3, "packing": True, "truncation": "drop",
    "mix_strategy": "interleave_over", "enable_thinking": None, "special_text": "keep", "batching_strategy": "length_grouped",
}  # fmt: skip
NOT_SHAPING = {
    "output_dir": "elsewhere", "overwrite_output_dir": True, "logging_steps": 1, "logging_strategy": "epoch", "logging_first_step": True,
    "save_steps": 7, "save_strategy": "epoch", "save_total_limit": 2, "save_only_model": True, "eval_steps": 3, "plot_loss": True,
    # how a step's examples are cut up; how many they are is held against the number of processes (trainkit.claim)
    "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2,
    "per_device_eval_batch_size": 1, "temperature": 0.1, "export_dir": "x", "preprocessing_num_workers": 4, "cache_path": "c",
}  # fmt: skip


@pytest.mark.parametrize("key", SHAPING)
def test_the_fingerprint_changes_with_what_shapes_the_losses(key: str) -> None:
    assert load_config({**LEAST, key: SHAPING[key]}).fingerprint() != load_config(LEAST).fingerprint()


@pytest.mark.parametrize("key", NOT_SHAPING)
def test_the_fingerprint_ignores_what_only_logs_saves_or_shows(key: str) -> None:
    assert load_config({**LEAST, key: NOT_SHAPING[key]}).fingerprint() == load_config(LEAST).fingerprint()


def test_the_fingerprint_does_not_depend_on_how_the_config_was_written(tmp_path: Path) -> None:
    path = written(tmp_path, "dataset: [d]\ndo_train: yes\nlearning_rate: 5e-5\nmodel_name_or_path: m\n")
    assert load_config(path).fingerprint() == load_config(LEAST).fingerprint()


def test_every_key_that_is_resolved_can_be_read_back(tmp_path: Path) -> None:
    config = load_config(
        {
            **LEAST,
            "learning_rate": "1e-3",
            "dataset": "a,b",
            "lr_scheduler_type": "cosine",
            "lr_scheduler_kwargs": {"num_cycles": 1},
        }
    )
    assert load_config(config.flat()) == config


def test_an_explicit_null_of_enable_thinking_is_not_its_default(tmp_path: Path) -> None:
    path = written(tmp_path, "model_name_or_path: m\nenable_thinking: null\n")
    assert load_config({"model_name_or_path": "m"}).data.enable_thinking is True
    assert load_config(path).data.enable_thinking is None
    assert load_config({"model_name_or_path": "m"}, ["enable_thinking=null"]).data.enable_thinking is None
    assert load_config(load_config(path).flat()).data.enable_thinking is None


def test_it_is_known_of_every_value_where_it_is_from(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "model_name_or_path: m\ndev_ratio: 0.5\ndataset: d\nseed: 1\ngroup_by_length: true\nneat_packing: true\n",
    )
    origins = load_config(path, ["seed=2", "--learning_rate", "1e-4"]).origins
    assert {key: text for key, text in origins.items() if text != "default"} == {
        "model_name_or_path": "file, line 1",
        "val_size": "file, line 2",
        "dataset": "file, line 3",
        "seed": "override",
        "batching_strategy": "derived from group_by_length",
        "neat_packing": "file, line 6",
        "packing": "derived from neat_packing",
        "learning_rate": "flag",
    }
    assert set(origins) == set(load_config(path).flat())
    assert load_config({"model_name_or_path": "m"}).origins["model_name_or_path"] == "given"


def test_neat_packing_turns_packing_on_and_says_so_where_it_is_off() -> None:
    config = load_config({**LEAST, "neat_packing": True, "packing": False, "use_cpu": True})
    assert config.data.packing is True
    assert config.notes == ("neat_packing turns packing on, though packing: false is there",)


def test_rows_in_order_are_not_regrouped() -> None:
    config = load_config({**LEAST, "disable_shuffling": True, "group_by_length": True})
    assert config.data.batching_strategy == "plain"
    assert config.origins["batching_strategy"] == "derived from disable_shuffling"


def test_a_dataset_dir_may_be_the_entries_themselves() -> None:
    entries = {"d": {"file_name": "rows.jsonl"}}
    config = load_config({**LEAST, "dataset_dir": entries})
    assert config.data.dataset_dir == entries
    assert load_config(config.flat()) == config


def test_what_does_not_train_yet_can_be_encoded() -> None:
    keys = {**LEAST, "fp8": True}
    config = load_config(keys, training=False)
    assert config.not_built == ('"fp8": fp8 training is not built; remove the key and use bf16: true',)
    assert faults_of(keys) == config.not_built


@pytest.mark.parametrize("keys", [{"stage": "ppo"}, {"use_unsloth": True}, {"fp17": True}])
def test_what_is_not_planned_cannot_be_encoded_either(keys: dict[str, Any]) -> None:
    with pytest.raises(Faults):
        load_config({**LEAST, **keys}, training=False)


def test_a_rule_is_silent_about_a_key_whose_value_was_not_understood() -> None:
    assert len(faults_of({**LEAST, "dataset": {"a": 1}})) == 1
