"""Every key by name: it has its effect, is accepted, is refused with its reason, or is read under its newer name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import trainkit
from trainkit.config import PARTS, RunConfig
from trainkit.keys import check_keys, coerce, key_table

TYPES = {"str", "int", "float", "bool", "int|float", "bool|str", "list[str]", "list[float]", "dict"}
STATUSES = {"used", "accepted", "refused", "renamed"}
SPELLINGS = {"type", "default", "null_ok", "choices", "min", "max", "status", "help", "why", "to", "unless"}
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
        if spec["default"] is not None:
            coerce(name, spec["default"], spec)  # a default must be a value that its own rules allow


def test_every_used_key_reaches_the_config_and_nothing_else_does() -> None:
    used = {name for name, spec in key_table().items() if spec["status"] == "used"}
    held = [name for part in PARTS.values() for name in part.__dataclass_fields__]
    held += [name for name in RunConfig.__dataclass_fields__ if name not in (*PARTS, "source", "notes")]
    assert len(held) == len(set(held))
    assert set(held) == used


def test_every_used_key_is_read_by_some_module() -> None:
    root = Path(trainkit.__file__).parent
    code = "\n".join(path.read_text("utf-8") for path in root.rglob("*.py"))
    unread = [
        name for name, spec in key_table().items() if spec["status"] == "used" and not re.search(rf"\.{name}\b", code)
    ]
    assert unread == ["pref_loss"]  # one value is built, so there is nothing to choose


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
    assert only_fault(streaming="true").startswith('line 7, "streaming": streaming is not built')


def test_an_accepted_key_that_is_set_is_noted_once_with_the_reason() -> None:
    checked = check_keys({"preprocessing_num_workers": 16})
    assert checked.faults == []
    assert checked.notes == [
        "preprocessing_num_workers has no effect here: only the speed of encoding; the tokenizer's own threads do the work"
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
