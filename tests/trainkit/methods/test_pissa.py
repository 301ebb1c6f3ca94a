"""PiSSA: the adapter begins as the weights' largest part, the base as the rest, and both are found again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from registry.errors import UsageError
from tests.trainkit.methods.models import load, logits, nudge, save
from trainkit.config import load_config
from trainkit.methods.adapters import merge_adapters, put_on
from trainkit.methods.pissa import convert, converted, initial_of, is_pissa, keep_initial
from trainkit.model import load_base

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def pissa(settings: Settings) -> Settings:
    return lambda **changes: settings(finetuning_type="lora", lora_rank=4, pissa_init=True, **changes)


def base_of(keys: dict[str, Any]) -> nn.Module:
    return load_base(load_config(keys).model, torch.float32).eval()


def layer(model: nn.Module) -> Any:
    return next(m for name, m in model.named_modules() if name.endswith("layers.0.self_attn.q_proj"))


@pytest.mark.parametrize(("rounds", "name"), [(-1, "pissa"), (16, "pissa_niter_16")])
def test_the_product_is_the_best_approximation_of_its_rank(pissa: Settings, rounds: int, name: str) -> None:
    """Eckart and Young: what is left of the weight has the norm of the singular values from the fifth on."""
    model = load(pissa(pissa_iter=rounds))
    found = layer(model)
    values = torch.linalg.svdvals(layer(base_of(pissa())).weight.data)
    left = torch.linalg.svdvals(found.get_base_layer().weight.data)
    best = values[4:].norm()  # the exact decomposition reaches it, the fast one nearly
    assert float(left.norm() / best) == pytest.approx(1, abs=1e-5 if rounds == -1 else 1e-2)
    factor_a, factor_b = found.lora_A["default"].weight, found.lora_B["default"].weight
    torch.testing.assert_close(factor_a.norm(dim=1), factor_b.norm(dim=0), rtol=1e-4, atol=1e-5)  # shared out evenly
    assert model.peft_config["default"].init_lora_weights == name  # type: ignore[union-attr, index]


def test_a_rank_above_the_weights_is_refused(pissa: Settings) -> None:
    with pytest.raises(
        UsageError, match="lora_rank 40 is more than a layer of 32 by 32 has\n  Write lora_rank: 32 or less"
    ):
        load({**pissa(), "lora_rank": 40})


@pytest.mark.parametrize(
    "changes", [{}, {"use_rslora": True}, {"use_dora": True}, {"additional_target": "embed_tokens"}]
)
def test_the_converted_adapter_says_on_the_base_what_the_trained_one_says_on_the_residual(
    pissa: Settings, tmp_path: Path, changes: dict[str, Any]
) -> None:
    fresh = load(pissa(**changes))
    keep_initial(fresh, tmp_path)
    model = nudge(fresh)
    save(model, tmp_path)
    convert(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["pissa_backup", "pissa_converted", "pissa_init"]
    plain = put_on(base_of(pissa()), str(tmp_path / "pissa_converted")).eval()
    assert not is_pissa(tmp_path / "pissa_converted")
    assert plain.peft_config["default"].r == 8  # type: ignore[union-attr, index]
    torch.testing.assert_close(logits(plain), logits(model), rtol=0, atol=1e-5)


def test_the_conversion_lays_the_trained_adapter_beside_the_first_one() -> None:
    first = {"q.lora_A.weight": torch.tensor([[1.0, 2.0]]), "q.lora_B.weight": torch.tensor([[3.0], [4.0]])}
    trained = {
        "q.lora_A.weight": torch.tensor([[5.0, 6.0]]),
        "q.lora_B.weight": torch.tensor([[7.0], [8.0]]),
        "m": torch.ones(1),
    }
    found = converted(trained, first)
    assert found["q.lora_A.weight"].tolist() == [[5, 6], [1, 2]]
    assert found["q.lora_B.weight"].tolist() == [[7, -3], [8, -4]]
    assert found["m"].tolist() == [1]


def test_of_a_checkpoint_the_first_state_stands_in_the_folder_above(pissa: Settings, tmp_path: Path) -> None:
    keep_initial(load(pissa()), tmp_path)
    (tmp_path / "checkpoint-5").mkdir()
    assert initial_of(tmp_path / "checkpoint-5") == initial_of(tmp_path) == tmp_path / "pissa_init"
    held = json.loads((tmp_path / "pissa_init" / "adapter_config.json").read_text())
    assert held["init_lora_weights"] is True


def test_an_adapter_that_is_continued_keeps_its_own_first_state(pissa: Settings, tmp_path: Path) -> None:
    fresh = load(pissa())
    keep_initial(fresh, tmp_path / "one")
    one = save(nudge(fresh), tmp_path / "one")
    on_one = load(pissa(adapter_name_or_path=one))
    keep_initial(on_one, tmp_path / "two", one)
    two = save(nudge(on_one), tmp_path / "two")
    said = logits(on_one)
    assert torch.equal(logits(load(pissa(), resumed=Path(two))), said)


def test_other_adapters_keep_nothing(settings: Settings, tmp_path: Path) -> None:
    model = load(settings(finetuning_type="lora"))
    keep_initial(model, tmp_path)
    save(model, tmp_path)
    convert(tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_without_its_first_state_an_adapter_is_not_trained_on_and_merged_by_anew_computed_vectors(
    pissa: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = nudge(load(pissa(pissa_iter=-1)))
    folder = save(model, tmp_path)
    with pytest.raises(UsageError, match=r"has no pissa_init, so the base below it cannot be restored"):
        load(pissa(adapter_name_or_path=folder))
    with pytest.raises(UsageError, match="pissa_init is gone"):
        convert(tmp_path)
    merged = merge_adapters(base_of(pissa()), [folder]).eval()
    torch.testing.assert_close(logits(merged), logits(model), rtol=0, atol=1e-4)
    assert "there is no pissa_init, so the base below this PiSSA adapter is computed anew" in caplog.text
