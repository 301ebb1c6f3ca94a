"""The reference of preference stages: the policy before its first step, measured once and kept."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
import torch
from torch import nn

from registry.encode import IGNORE, Example, FeedbackExample, PreferenceExample
from trainkit.backends.single import Single
from trainkit.config import load_config
from trainkit.data.collate import collate_feedback, collate_pairs
from trainkit.head import find_head
from trainkit.logprobs import token_logprobs
from trainkit.objective import Objective
from trainkit.reference import load_reference, pick, reference_logprobs, save_reference
from trainkit.stages import STAGES, Settings

CONFIG = load_config({"model_name_or_path": "m"})
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


def dpo_on(model: nn.Module) -> tuple[Objective, Single]:
    backend = Single(use_cpu=True, bf16=False)
    settings = Settings(CONFIG.preference, CONFIG.loss, backend.device, backend.sum, {})
    return Objective(model, STAGES["dpo"].way(settings), find_head(model)), backend


def measured(model: nn.Module, *, adapter_off: bool = False) -> torch.Tensor:
    objective, backend = dpo_on(model)
    objective.train(model.training)
    batches = [collate_pairs([PAIRS[i]], [i], 0, strict=False) for i in (2, 0)]  # pair 1 is not asked for
    idle = collate_pairs([PAIRS[1]], [1], 0, strict=False).as_idle()
    return reference_logprobs(objective, [*batches, idle], 3, backend, adapter_of=model if adapter_off else None)


def test_chosen_and_rejected_land_in_the_columns_of_their_pairs(model_folder: Path) -> None:
    model = adapted(model_folder, dropout=0.0).eval()
    found = measured(model)
    batch = collate_pairs([PAIRS[2]], [2], 0, strict=False)
    assert found[:, 2].tolist() == pytest.approx(
        token_logprobs(model, batch, find_head(model)).by_row().tolist(), abs=1e-5
    )
    assert found[:, 1].isnan().all()  # what was not asked for is not known, and never taken for a number


def test_of_feedback_it_is_the_answer_and_its_kl_row(model_folder: Path) -> None:
    model = adapted(model_folder, dropout=0.0).eval()
    _, backend = dpo_on(model)
    settings = Settings(CONFIG.preference, CONFIG.loss, backend.device, backend.sum, {})
    objective = Objective(model, STAGES["kto"].way(settings), find_head(model)).eval()
    batch = collate_feedback([FeedbackExample(PAIRS[0].chosen, PAIRS[1].rejected, True)], [0], 0, strict=False)
    (own,), (kl,) = reference_logprobs(objective, [batch], 1, backend).tolist()
    alone = collate_pairs([PAIRS[0], PAIRS[1]], [0, 1], 0, strict=False)
    sums = token_logprobs(model, alone, find_head(model)).by_row()
    assert (own, kl) == (pytest.approx(float(sums[0]), abs=1e-5), pytest.approx(float(sums[3]), abs=1e-5))


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
    path = tmp_path / "made" / "reference.safetensors"
    save_reference(path, logprobs, "data-base")
    assert torch.equal(load_reference(path, "data-base"), logprobs)  # type: ignore[arg-type]
    assert load_reference(path, "other") is None
    assert load_reference(tmp_path / "elsewhere", "data-base") is None


def test_a_damaged_file_is_told_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "reference.safetensors"
    path.write_bytes(b"no tensors")
    with caplog.at_level("WARNING", logger="tunekit"):
        assert load_reference(path, "data") is None
    assert "is damaged" in caplog.text


def test_a_batch_gets_its_own_columns() -> None:
    assert pick(torch.tensor([[1.0, 2, 3], [4, 5, 6]]), (2, 0), torch.device("cpu")).tolist() == [[3, 1], [6, 4]]  # type: ignore[union-attr]
    assert pick(None, (0,), torch.device("cpu")) is None
