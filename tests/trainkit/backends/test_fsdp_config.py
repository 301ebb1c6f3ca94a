"""transformers' words for FSDP, read as a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainkit.backends.fsdp_config import FsdpPlan, read_fsdp_keys


@pytest.mark.parametrize(
    ("fsdp", "plan"),
    [
        (None, None),
        (False, None),
        ("", None),
        (True, FsdpPlan()),
        ("full_shard auto_wrap", FsdpPlan()),
        ("shard_grad_op", FsdpPlan(reshard_after_forward=False)),
        ("full_shard,offload", FsdpPlan(offload=True)),
        ("hybrid_shard", FsdpPlan(hybrid=True)),
        ("hybrid_shard_zero2", FsdpPlan(hybrid=True, reshard_after_forward=False)),
        (["full_shard", "auto_wrap"], FsdpPlan()),
    ],
)
def test_words(fsdp: Any, plan: FsdpPlan | None) -> None:
    assert read_fsdp_keys(fsdp, None, None) == (plan, [])


@pytest.mark.parametrize(
    ("config", "plan"),
    [
        ({"fsdp_transformer_layer_cls_to_wrap": "A,B", "fsdp_version": 2}, FsdpPlan(layer_classes=("A", "B"))),
        ({"reshard_after_forward": False}, FsdpPlan(reshard_after_forward=False)),
        ({"fsdp_reshard_after_forward": "true", "cpu_offload": True}, FsdpPlan(offload=True)),
        ({"fsdp_backward_prefetch": "BACKWARD_PRE", "fsdp_use_orig_params": True}, FsdpPlan()),
    ],
)
def test_settings(config: dict[str, Any], plan: FsdpPlan, tmp_path: Path) -> None:
    assert read_fsdp_keys(True, config, None) == (plan, [])
    path = tmp_path / "fsdp.json"
    path.write_text(json.dumps(config))
    assert read_fsdp_keys(True, str(path), None) == (plan, [])


@pytest.mark.parametrize(
    ("fsdp", "config", "told"),
    [
        ("ful_shard", None, 'Did you mean "full_shard"'),
        ("no_shard", None, "remove"),
        ("full_shard shard_grad_op", None, "exclude each other"),
        (True, {"reshard_after_forwrd": True}, 'Did you mean "reshard_after_forward"'),
        (True, {"reshard_after_forward": "maybe"}, "true or false"),
        (True, {"xla": True}, "TPU"),
        (True, {"activation_checkpointing": True}, "gradient_checkpointing: true"),
        (True, "nowhere.json", "No such file"),
    ],
)
def test_faults(fsdp: Any, config: Any, told: str) -> None:
    _, faults = read_fsdp_keys(fsdp, config, None)
    assert len(faults) == 1
    assert told in faults[0]
