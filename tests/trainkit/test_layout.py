"""A model's files: those that the libraries would have written, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainkit.layout import layout_of, save_weights
from trainkit.snapshot import publish_weights, take_snapshot

SIZES = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), eos_token="<end>")


def qwen(**changes: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, **changes))


def mixtral() -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=2))


def adapted(**options: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    model = qwen(tie_word_embeddings=False)
    model.name_or_path = "some/base"
    return get_peft_model(model, LoraConfig(**{"task_type": "CAUSAL_LM", "target_modules": ["q_proj"], **options}))


MODELS = {
    "tied": lambda: qwen(tie_word_embeddings=True),
    "with a head of its own": lambda: qwen(tie_word_embeddings=False),
    "experts, whose file has other names than the model": mixtral,
    "lora": adapted,
    "dora": lambda: adapted(use_dora=True),
    "modules trained whole": lambda: adapted(modules_to_save=["lm_head", "embed_tokens"]),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("shard", ["5GB", "10KB"])
def test_files_are_those_of_the_libraries(kind: str, shard: str, tokenizer: Any, tmp_path: Path) -> None:
    model = MODELS[kind]()
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir(), theirs.mkdir()
    save_weights(theirs, model, tokenizer, max_shard_size=shard)
    layout = layout_of(model, tokenizer, max_shard_size=shard)
    publish_weights(ours, take_snapshot(layout, 1, dict(model.state_dict()), state={}))
    (theirs / "README.md").unlink(missing_ok=True)  # peft's empty model card; a run writes a real one
    written = {p.name: p.read_bytes() for p in ours.iterdir()}
    assert written == {p.name: p.read_bytes() for p in theirs.iterdir()}
    assert ("model.safetensors.index.json" in written) == (shard == "10KB" and not layout.is_adapter)


def test_a_value_head_has_a_file_of_its_own(tokenizer: Any, tmp_path: Path) -> None:
    model = qwen()
    head = {"v_head.summary.weight": torch.ones(1, 16), "v_head.summary.bias": torch.zeros(1)}
    layout = layout_of(model, tokenizer)
    publish_weights(tmp_path, take_snapshot(layout, 1, {**model.state_dict(), **head}, state={}))
    saved = load_file(tmp_path / "value_head.safetensors")
    assert saved.keys() == head.keys()
    assert not any(name.startswith("v_head") for name in load_file(tmp_path / "model.safetensors"))
