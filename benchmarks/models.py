"""The models that are measured on: two small ones for CPUs, and the shapes of Qwen2.5 for GPUs; all with random weights."""

from __future__ import annotations

from typing import Any

# Name -> the keys of a Qwen2Config. "large" and "small" say how large the vocabulary is: 20 and 16 million parameters.
SHAPES: dict[str, dict[str, Any]] = {
    "large": {
        "vocab_size": 151_936, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True,
    },
    "small": {
        "vocab_size": 4_096, "hidden_size": 384, "intermediate_size": 1_536, "num_hidden_layers": 6,
        "num_attention_heads": 6, "num_key_value_heads": 6, "tie_word_embeddings": True,
    },
    "0.5B": {
        "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4_864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "1.5B": {
        "vocab_size": 151_936, "hidden_size": 1_536, "intermediate_size": 8_960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "7B": {
        "vocab_size": 152_064, "hidden_size": 3_584, "intermediate_size": 18_944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
    },
    "tiny": {
        "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True,
    },
}  # fmt: skip


def config_of(shape: str, **changes: Any) -> Any:
    """A transformers config of that shape, for up to 32,768 tokens."""
    from transformers import Qwen2Config

    return Qwen2Config(**SHAPES[shape], max_position_embeddings=32_768, rope_theta=1_000_000.0, **changes)


def parameters_of(shape: str) -> int:
    """How many parameters a model of that shape has."""
    s = SHAPES[shape]
    width, head = s["hidden_size"], s["hidden_size"] // s["num_attention_heads"]
    keys = s["num_key_value_heads"] * head
    attention = width * (2 * width + 2 * keys) + width + 2 * keys
    layer = attention + 3 * width * s["intermediate_size"] + 2 * width
    return s["num_hidden_layers"] * layer + width + s["vocab_size"] * width * (2 - s["tie_word_embeddings"])
