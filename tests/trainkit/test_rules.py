"""What a config says of spelling and cutting, in the words of the registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.cuts import EncodeRules
from registry.render import RenderRules
from registry.stages import KINDS
from registry.uncut import PARTS
from trainkit.config import RunConfig, load_config
from trainkit.rules import PURPOSES, encode_rules, render_rules


@pytest.fixture
def config(config_file: Callable[..., Path]) -> Callable[..., RunConfig]:
    return lambda **changes: load_config(config_file(**changes), [])


def test_what_is_not_set_is_the_registrys_own(config: Callable[..., RunConfig]) -> None:
    assert render_rules(config()) == RenderRules()
    assert encode_rules(config(cutoff_len=64)) == EncodeRules(64)


def test_every_key_reaches_its_rule(config: Callable[..., RunConfig]) -> None:
    spelled = config(
        default_system="Be kind.", tool_format="qwen", enable_thinking=False, preserve_thinking=True, mask_history=True,
        tool_prompt_date="26 Jul 2024", special_text="keep", truncation="left", compat="strict",
    )  # fmt: skip
    assert render_rules(spelled) == RenderRules(
        default_system="Be kind.", tool_format="qwen", enable_thinking=False, preserve_thinking=True, discard_thoughts=True,
        tool_prompt_date="26 Jul 2024", keep_special_text=True, strict=True,
    )  # fmt: skip
    assert encode_rules(spelled) == EncodeRules(64, mask_history=True, strict=True, truncation="left")
    assert encode_rules(config(train_on_prompt=True)).train_on_prompt


def test_strict_lowers_the_cutoff_by_one_where_packing_is_written_out(config: Callable[..., RunConfig]) -> None:
    found = {
        (packing, compat): encode_rules(config(packing=packing, compat=compat, cutoff_len=64)).cutoff_len
        for packing in (True, False) for compat in ("default", "strict")
    }  # fmt: skip
    assert found == {(True, "default"): 64, (True, "strict"): 63, (False, "default"): 64, (False, "strict"): 64}


def test_every_stage_is_encoded_for_a_purpose() -> None:
    assert set(PURPOSES) == set(KINDS)
    assert set(PURPOSES.values()) == {*PARTS, "text"}
