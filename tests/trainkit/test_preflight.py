"""What is wrong with the places that a config names, told before a model loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.errors import Faults, UsageError
from trainkit.config import load_config
from trainkit.preflight import check_adapter, check_model, check_places, check_writable

Settings = Callable[..., dict[str, Any]]


def faults_of(keys: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(Faults) as caught:
        check_places(load_config(keys))
    return caught.value.faults


def test_a_run_with_all_its_places_gets_its_dataset_entries(settings: Settings, data_folder: Path) -> None:
    entries = check_places(load_config(settings()))
    assert entries["questions"].path == data_folder / "questions.jsonl"


def test_an_undefined_dataset_gets_the_nearest_names(settings: Settings, data_folder: Path) -> None:
    (fault,) = faults_of(settings(dataset="qestions"))
    assert fault.startswith(f'{data_folder / "dataset_info.json"}: dataset "qestions" is not defined\n')
    assert "Nearest names: questions." in fault


def test_preference_data_for_sft_says_which_stage_trains_on_it(settings: Settings) -> None:
    assert faults_of(settings(dataset="pairs")) == (
        'dataset "pairs" holds preference pairs, and stage sft trains on chat rows\nSet stage: dpo, or choose another dataset.',
    )


def test_chat_data_for_dpo_says_which_stage_trains_on_it(settings: Settings) -> None:
    assert faults_of(settings(stage="dpo")) == (
        'dataset "questions" holds chat rows, and stage dpo trains on preference pairs\nSet stage: sft, or choose another dataset.',
    )


def test_plain_text_for_sft_says_which_stage_trains_on_it(settings: Settings) -> None:
    assert "stage sft trains on chat rows\nSet stage: pt," in faults_of(settings(dataset="pages"))[0]


def test_an_unknown_template_gets_the_nearest_names(settings: Settings) -> None:
    (fault,) = faults_of(settings(template="qwenn3"))
    assert fault.startswith('unknown template "qwenn3"\n  Did you mean "qwen3')


def test_a_dataset_whose_file_is_gone_is_named(settings: Settings, data_folder: Path) -> None:
    assert faults_of(settings(dataset="lost")) == (f"{data_folder / 'nowhere.jsonl'}: no such file or folder",)


def test_everything_that_is_wrong_comes_together(settings: Settings, tmp_path: Path) -> None:
    keys = settings(model_name_or_path=str(tmp_path), template="qwen9", dataset="pairs,lost,other")
    assert len(faults_of(keys)) == 5


def test_a_missing_dataset_dir_is_told_once(settings: Settings, tmp_path: Path) -> None:
    (fault,) = faults_of(settings(dataset="a,b,c", dataset_dir=str(tmp_path / "none")))
    assert "dataset_info.json: no such file" in fault
    assert "datakit register" in fault


def test_a_model_folder_without_a_config_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    with pytest.raises(UsageError, match=r"the model folder has no config\.json\n  It holds: weights\.bin"):
        check_model(str(tmp_path))


def test_an_adapter_given_as_model_says_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").touch()
    with pytest.raises(
        UsageError, match="It is an adapter: name its base here, and this folder as adapter_name_or_path"
    ):
        check_model(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not a JSON object"), ("[]", "is not a JSON object"), ("{}", 'config.json names no "model_type"')],
)
def test_a_model_config_that_says_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        check_model(str(tmp_path))


def test_a_model_folder_that_is_misspelt_gets_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "small-model").mkdir()
    with pytest.raises(UsageError, match="no such model folder\n  Near it: small-model"):
        check_model(str(tmp_path / "smal-model"))


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UsageError, match="a model must be a folder, this is a file"):
        check_model(str(tmp_path / "model.safetensors"))


def test_what_looks_like_a_hub_id_is_left_to_the_hub() -> None:
    check_model("some-org/some-model")
    check_adapter("some-org/some-adapter")


def test_an_adapter_folder_that_is_misspelt_gets_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "saves" / "sft").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="saves/sftt: no such adapter folder\n  Near it: sft"):
        check_adapter("saves/sftt")


def test_a_folder_without_adapter_config_is_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no adapter_config\.json"):
        check_adapter(str(tmp_path))


def test_a_file_is_a_dataset_too_and_nothing_needs_to_be_entered(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    entries = check_places(load_config(settings(dataset=str(tmp_path / "mine.jsonl"))))
    assert [entry.layout.kind for entry in entries.values()] == ["chat"]


def test_streamed_rows_are_not_saved(settings: Settings, tmp_path: Path) -> None:
    (fault,) = faults_of(settings(streaming=True, max_steps=1, tokenized_path=str(tmp_path / "kept")))
    assert fault.startswith('"tokenized_path": streamed rows are not kept')


def test_an_output_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file, and a folder is needed"):
        check_writable(tmp_path / "file" / "out")


@pytest.mark.parametrize("key", ["dataset", "tokenized_path", "cache_path", "output_dir"])
@pytest.mark.parametrize("name", ["a\0b", "\udcff.jsonl"])
def test_names_that_nothing_can_hold_are_refused_before_anything_is_read(
    settings: Settings, key: str, name: str
) -> None:
    (fault,) = faults_of(settings(**{key: name}))
    assert fault.startswith(f'"{key}": ')
    assert fault.endswith("holds a NUL, or bytes that are no UTF-8; rename it")
