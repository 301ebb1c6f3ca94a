"""PiSSA (Meng et al. 2024, arXiv 2404.02948): LoRA begun from the largest singular vectors of each weight.

With W = U S V^T of rank r cut off, B0 = U sqrt(S / s) and A0 = sqrt(S / s) V^T, and the base keeps W - s B0 A0 (eq. 3, 4).
That residual is not saved: it follows from the base and the first adapter, which is kept in ``pissa_init``.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError

log = logging.getLogger("tunekit")

INITIAL = "pissa_init"  # in the output folder: the adapter before the first step
BACKUP = "pissa_backup"  # the trained one, to be put on the residual
CONVERTED = "pissa_converted"  # an ordinary adapter of twice the rank, to be put on the base
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def begin(adapted: nn.Module, rounds: int) -> None:
    """Start the fresh adapter of every linear target from its weight's singular vectors, in place; ``rounds`` of power
    iteration of the randomised SVD (drawn from torch's generator), -1 for the exact one."""
    for _, layer in _targets(adapted):
        factor_a, factor_b = _principal(_weight_of(layer), layer.r["default"], layer.scaling["default"], rounds)
        layer.lora_A["default"].weight.data.copy_(factor_a)
        layer.lora_B["default"].weight.data.copy_(factor_b)
        _take_out(layer, layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data)
    name = "pissa" if rounds == -1 else f"pissa_niter_{rounds}"
    adapted.peft_config["default"].init_lora_weights = name  # type: ignore[union-attr, index]


def is_pissa(adapter: Path) -> bool:
    """Whether a folder's adapter belongs on a residual."""
    try:
        begun = json.loads((adapter / CONFIG).read_text(encoding="utf-8")).get("init_lora_weights")
    except (OSError, ValueError, AttributeError):
        return False
    return isinstance(begun, str) and begun.startswith("pissa")


def initial_of(adapter: Path) -> Path | None:
    """Where the first state of a PiSSA adapter is kept: in its folder or, of a checkpoint, in the folder above."""
    for folder in (adapter, adapter.absolute().parent):
        if (folder / INITIAL / WEIGHTS).is_file():
            return folder / INITIAL
    return None


def restore_residual(adapted: nn.Module, adapter: Path, *, trained: bool) -> None:
    """Take the first state of ``adapter`` out of the base below it, in place: the same residual as at its beginning.

    Where that state was not kept, the singular vectors are computed anew, which is near and not the same: with
    ``trained`` ``UsageError`` is raised instead.
    """
    from safetensors.torch import load_file

    initial = initial_of(adapter)
    if initial is None:
        if trained:
            raise UsageError(
                f"the PiSSA adapter has no {INITIAL}, so the base below it cannot be restored",
                where=str(adapter),
                mend=f"Put {INITIAL} of its run beside it, or train on its {CONVERTED}.",
            )
        log.warning("%s: there is no %s, so the base below this PiSSA adapter is computed anew", adapter, INITIAL)
    saved = load_file(initial / WEIGHTS) if initial else {}
    rounds = adapted.peft_config["default"].init_lora_weights  # type: ignore[union-attr, index]
    for name, layer in _targets(adapted):
        if initial:
            factor_a, factor_b = saved[f"{name}.lora_A.weight"], saved[f"{name}.lora_B.weight"]
        else:
            number = int(rounds.rpartition("_")[2]) if "niter" in rounds else -1
            factor_a, factor_b = _principal(_weight_of(layer), layer.r["default"], layer.scaling["default"], number)
        _take_out(layer, factor_a, factor_b)


def keep_initial(adapted: nn.Module, folder: Path, continued: str | Path | None = None) -> None:
    """Write ``folder/pissa_init``, before the first step: the adapter as it is, or the first state of the adapter (or
    checkpoint) that is ``continued``. Other models have none, and nothing is written."""
    from registry.atomic import atomic_folder

    config = getattr(adapted, "peft_config", {}).get("default")
    if config is None or not str(getattr(config, "init_lora_weights", "")).startswith("pissa"):
        return
    earlier = initial_of(Path(continued)) if continued else None
    if earlier and earlier.resolve() == (folder / INITIAL).resolve():
        return
    with atomic_folder(folder / INITIAL) as target:
        if earlier:
            for name in (CONFIG, WEIGHTS):
                shutil.copyfile(earlier / name, target / name)
            return
        adapted.save_pretrained(target, save_embedding_layers=False)  # type: ignore[operator]
        _rewrite_config(target, target, init_lora_weights=True)


def convert(folder: Path) -> None:
    """From the adapter in ``folder`` and its first state write ``pissa_backup`` and ``pissa_converted`` into it.

    W - s B0 A0 + s B A = W + s [B, -B0] [A; A0]: an adapter of twice the rank on the base itself. Nothing happens where
    the adapter is no PiSSA.
    """
    from safetensors.torch import load_file, save_file

    from registry.atomic import atomic_folder

    if not is_pissa(folder):
        return
    initial = initial_of(folder)
    if initial is None:
        raise UsageError(f"{INITIAL} is gone, and the adapter cannot be converted without it", where=str(folder))
    trained, first = load_file(folder / WEIGHTS), load_file(initial / WEIGHTS)
    with atomic_folder(folder / BACKUP) as target:
        shutil.copyfile(folder / WEIGHTS, target / WEIGHTS)
        _rewrite_config(folder, target, init_lora_weights=True)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    # s is alpha / r, or alpha / sqrt(r): it must stay as it was
    wider = config["lora_alpha"] * (2**0.5 if config["use_rslora"] else 2)
    with atomic_folder(folder / CONVERTED) as target:
        save_file(converted(trained, first), target / WEIGHTS, metadata={"format": "pt"})
        _rewrite_config(folder, target, init_lora_weights=True, r=2 * config["r"], lora_alpha=wider)


def converted(trained: dict[str, torch.Tensor], first: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of an ordinary adapter: A [2r, in] and B [out, 2r]; all others stay."""
    found = dict(trained)
    for name, value in trained.items():
        if name.endswith(".lora_A.weight"):
            found[name] = torch.cat([value, first[name].to(value.dtype)], dim=0)
        elif name.endswith(".lora_B.weight"):
            found[name] = torch.cat([value, -first[name].to(value.dtype)], dim=1)
    return found


def _rewrite_config(source: Path, target: Path, **changes: Any) -> None:
    config = json.loads((source / CONFIG).read_text(encoding="utf-8")) | changes
    (target / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


def _targets(adapted: nn.Module) -> Iterator[tuple[str, Any]]:
    """The linear layers with an adapter, by the names that peft saves them under."""
    for name, module in adapted.named_modules():
        if "default" in getattr(module, "lora_A", {}):
            yield name, module


def _weight_of(layer: Any) -> torch.Tensor:
    """[out, in] in float32."""
    weight = layer.get_base_layer().weight.data.float()
    return weight.T if layer.fan_in_fan_out else weight


@torch.no_grad()
def _principal(weight: torch.Tensor, rank: int, scale: float, rounds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A [rank, in] and B [out, rank] with ``scale`` B A the best approximation of ``weight`` [out, in] of that rank.

    Raises ``UsageError`` for a rank above both sizes of the weight.
    """
    if rank > min(weight.shape):
        raise UsageError(
            f"pissa_init: lora_rank {rank} is more than a layer of {weight.shape[1]} by {weight.shape[0]} has",
            mend=f"Write lora_rank: {min(weight.shape)} or less, or choose lora_target.",
        )
    if rounds == -1:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        left, values, right = left[:, :rank], values[:rank], right[:rank]
    else:
        left, values, across = torch.svd_lowrank(weight, rank, niter=rounds)
        right = across.T
    root = (values / scale).sqrt()
    return root[:, None] * right, left * root


@torch.no_grad()
def _take_out(layer: Any, factor_a: torch.Tensor, factor_b: torch.Tensor) -> None:
    """The base's weight less the adapter's product; always by the same operations, so that it is the same again."""
    base = layer.get_base_layer().weight
    residual = _weight_of(layer) - layer.scaling["default"] * (factor_b.float() @ factor_a.float())
    base.data = (residual.T if layer.fan_in_fan_out else residual).to(base.dtype).contiguous()
