"""The reference of preference stages: the policy before its first step, measured once and kept."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
import torch
from torch import nn

from registry.encode import IGNORE, Example, PreferenceExample
from trainkit.backends.single import Single
from trainkit.data.collate import collate_pairs
from trainkit.logprobs import token_logprobs
from trainkit.reference import load_reference, pick, reference_logprobs, save_reference

PAIRS = [
    PreferenceExample(
        Example(array("i", [5, 6, 7 + n]), array("i", [IGNORE, 6, 7 + n])),
        Example(array("i", [5, 9]), array("i", [IGNORE, 9])),
    )
    for n in range(3)
]


def adapted(model_folder: Path, dropout: float) -> nn.Module:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    return get_peft_model(
        base,
        LoraConfig(
            task_type="CAUSAL_LM", r=2, lora_dropout=dropout, target_modules=["q_proj"], init_lora_weights=False
        ),
    )


def measured(model: nn.Module, *, adapter_off: bool = False) -> torch.Tensor:
    batches = [collate_pairs([PAIRS[i]], [i], 0, strict=False) for i in (2, 0)]  # pair 1 is not asked for
    return reference_logprobs(
        model, batches, 3, Single(use_cpu=True, bf16=False), head_only=True, adapter_off=adapter_off
    )


def test_chosen_and_rejected_land_in_the_columns_of_their_pairs(model_folder: Path) -> None:
    model = adapted(model_folder, dropout=0.0).eval()
    found = measured(model)
    batch = collate_pairs([PAIRS[2]], [2], 0, strict=False)
    assert found[:, 2].tolist() == pytest.approx(
        token_logprobs(model, batch, head_only=True).by_row().tolist(), abs=1e-5
    )
    assert found[:, 1].isnan().all()  # what was not asked for is not known, and never taken for a number


def test_the_reference_knows_no_dropout_and_leaves_the_model_training(model_folder: Path) -> None:
    model = adapted(model_folder, dropout=0.5).train()
    assert torch.equal(measured(model)[:, ::2], measured(model)[:, ::2])
    assert model.training


def test_with_the_adapter_off_it_is_the_bare_base(model_folder: Path) -> None:
    model = adapted(model_folder, dropout=0.0)
    bare = measured(model, adapter_off=True)
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model_folder)
    torch.testing.assert_close(bare, measured(base), equal_nan=True)
    assert not torch.allclose(bare, measured(model), equal_nan=True)


def test_what_is_saved_is_what_is_loaded_and_of_other_data_nothing(tmp_path: Path) -> None:
    logprobs = torch.tensor([[-1.5, -2.5], [-3.5, -4.5]])
    save_reference(tmp_path, logprobs, "data-base")
    assert torch.equal(load_reference(tmp_path, "data-base"), logprobs)  # type: ignore[arg-type]
    assert load_reference(tmp_path, "other") is None
    assert load_reference(tmp_path / "elsewhere", "data-base") is None


def test_a_batch_gets_its_own_columns() -> None:
    assert pick(torch.tensor([[1.0, 2, 3], [4, 5, 6]]), (2, 0), torch.device("cpu")).tolist() == [[3, 1], [6, 4]]  # type: ignore[union-attr]
    assert pick(None, (0,), torch.device("cpu")) is None
