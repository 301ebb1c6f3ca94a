"""A model's files in Hugging Face layout: which tensors go into which, and the configs and tokenizer beside them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import StoppedError

if TYPE_CHECKING:
    import torch
    from torch import nn

WHOLE_MODEL = ("model*.safetensors", "model.safetensors.index.json", "config.json", "generation_config.json")
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
VALUE_HEAD = "value_head.safetensors"  # a reward model's: v_head.summary.weight [1, H] and .bias [1]
SHARD = "5GB"


@dataclass(frozen=True)
class Layout:
    """How one model is written: made once a run, used for every checkpoint and for the final weights.

    ``texts`` are the files that no step changes, by name: configs, tokenizer, chat template, the model's own code.
    """

    model: nn.Module
    texts: Mapping[str, bytes]
    max_shard_size: str = SHARD

    @property
    def is_adapter(self) -> bool:
        return "adapter_config.json" in self.texts

    def files(self, weights: Mapping[str, torch.Tensor]) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, bytes]]:
        """``weights`` (by the names of the model's state dict, with ``v_head.…`` for a reward model) as the tensors of
        each .safetensors file, and the texts beside them: with several shards, their index too. Nothing is copied."""
        head = {name: value for name, value in weights.items() if name.startswith("v_head.")}
        rest = {name: value for name, value in weights.items() if name not in head}
        files, texts = self._adapter(rest) if self.is_adapter else self._whole(rest)
        if head:
            files[VALUE_HEAD] = head
        return files, {**self.texts, **texts}

    def _adapter(self, weights: dict[str, torch.Tensor]) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, bytes]]:
        from peft import get_peft_model_state_dict

        kept = get_peft_model_state_dict(self.model, state_dict=weights, save_embedding_layers=False)
        return {"adapter_model.safetensors": dict(kept)}, {}

    def _whole(self, weights: dict[str, torch.Tensor]) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, bytes]]:
        """As ``PreTrainedModel.save_pretrained`` (transformers 5) names and cuts them."""
        from huggingface_hub import split_torch_state_dict_into_shards
        from transformers.core_model_loading import revert_weight_conversion

        model: Any = self.model
        dropped = {*(model._keys_to_ignore_on_save or ()), *tied_names(model)}
        weights = {name: value for name, value in weights.items() if name not in dropped}
        weights = revert_weight_conversion(model, weights)
        split = split_torch_state_dict_into_shards(
            weights, filename_pattern="model{suffix}.safetensors", max_shard_size=self.max_shard_size
        )
        files = {file: {name: weights[name] for name in names} for file, names in split.filename_to_tensors.items()}
        if not split.is_sharded:
            return files, {}
        total = {"total_parameters": sum(value.numel() for value in weights.values()), **split.metadata}
        index = {"metadata": total, "weight_map": split.tensor_to_filename}
        return files, {"model.safetensors.index.json": (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()}


def tied_names(model: nn.Module) -> set[str]:
    """The names of weights that are another one's tensor, all but the one that the model expects in its files."""
    declared = set(getattr(model, "all_tied_weights_keys", None) or ())
    by_tensor: dict[int, list[str]] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        by_tensor.setdefault(id(value), []).append(name)
    found = set()
    for names in by_tensor.values():
        kept = [name for name in names if name not in declared] or names
        found |= set(names) - {kept[0]}
    return found


def layout_of(model: nn.Module, tokenizer: Any, *, max_shard_size: str = SHARD) -> Layout:
    """The layout of ``model`` (of transformers, or peft's around one), with transformers' ``tokenizer`` beside it.

    The libraries write their texts into a folder of their own, which is read and removed: later saves need neither
    them nor their locks. Raises ``OSError`` where there is no room for that.
    """
    with tempfile.TemporaryDirectory(prefix="tunekit-") as made:
        folder = Path(made)
        if hasattr(model, "peft_config"):
            _write_adapter_config(folder, model)
        else:
            model.save_pretrained(folder, state_dict={})  # type: ignore[operator]  # no weights: configs and code alone
        tokenizer.save_pretrained(folder)
        texts = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return Layout(
        model, {name: text for name, text in texts.items() if not name.endswith(".safetensors")}, max_shard_size
    )


def save_weights(folder: Path, model: nn.Module, tokenizer: Any, *, max_shard_size: str = SHARD) -> None:
    """A model (or adapter) that nobody trains, and its tokenizer, as the libraries write them. Raises ``StoppedError``
    on a full disk."""
    options: dict[str, Any] = (
        {"save_embedding_layers": False} if hasattr(model, "peft_config") else {"max_shard_size": max_shard_size}
    )
    try:
        model.save_pretrained(folder, **options)  # type: ignore[operator]
        tokenizer.save_pretrained(folder)
    except Exception as error:
        # safetensors wraps the system's error in its own kind, with the number only in the text
        if any(sign in str(error) for sign in ("No space left", "os error 28", "code: 28")):
            raise StoppedError(
                "the disk is full while saving the model",
                where=str(folder.parent),
                mend="Free some space and run the same command again; what was there before is intact.",
            ) from error
        raise
    for path in folder.glob("*.safetensors"):  # written for the owner alone, whatever the umask says
        path.chmod(path.stat().st_mode | (folder.stat().st_mode & 0o044))


def _write_adapter_config(folder: Path, model: Any) -> None:
    """``adapter_config.json`` as ``PeftModel.save_pretrained`` writes it, without the weights."""
    import copy

    config = copy.copy(model.peft_config["default"])
    config.base_model_name_or_path = config.base_model_name_or_path or model.base_model.model.__dict__.get(
        "name_or_path"
    )
    config.inference_mode = True
    config.save_pretrained(str(folder))
