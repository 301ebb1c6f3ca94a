"""A model's output head: where its logits come from, found by trying, its weights read anew at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# What configs call it, and whether logits are multiplied or divided by it (``logits_scaling`` is both, by family).
SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")
SOFTCAPS = ("final_logit_softcapping", "output_logit_soft_cap", "softcap")
TRIED_AT = 100.0  # the largest raw logit of the second trial: far above every cap in use (15 to 50)

Kernel = Callable[[torch.Tensor, "Head", torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Head:
    """A head that is no more than a matrix. With z = (h W^T + b) * scale the logits of hidden states h [N, H] are z, or
    softcap * tanh(z / softcap); ``weight`` [V, H], ``bias`` [V]."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None


@dataclass(frozen=True, slots=True)
class OutputHead:
    """The module that makes logits, and what its model does to them afterwards.

    The module is kept and not its weight: sharding backends gather, replace and free that. ``kernel`` is a faster way
    to the log-probabilities on this device (``trainkit.head_kernels``).
    """

    module: nn.Module
    scale: float = 1.0
    softcap: float | None = None
    kernel: Kernel | None = None

    def read(self) -> Head | None:
        """The matrix as it is now; None where the module does more than multiply by one (an adapter, quantised)."""
        module = self.module
        if not isinstance(module, nn.Linear) or type(module).forward is not nn.Linear.forward:
            return None
        return Head(module.weight, module.bias, self.scale, self.softcap)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., V] from [..., H], through the module."""
        return bent(self.module(hidden) * self.scale, self.softcap)


def bent(logits: torch.Tensor, softcap: float | None) -> torch.Tensor:
    """Logits kept within ±``softcap``."""
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def decoder_and_head(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The stack that ends in hidden states and the matrix that makes logits of them, adapters included."""
    causal: Any = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
    return causal.base_model, causal.get_output_embeddings()


@torch.no_grad()
def find_head(model: nn.Module) -> OutputHead | None:
    """The head of a causal model; None where its logits are no known function of its last hidden states.

    Scale and soft-cap are guessed from the config and tried on four tokens rather than looked up by architecture: a
    wrong guess would train the wrong loss. The second trial enlarges the hidden states on their way to the head, since a
    fresh model's logits are so small that no soft-cap bends them.
    """
    device = next(model.parameters()).device
    inputs = {
        "input_ids": torch.arange(4, device=device)[None],
        "attention_mask": torch.ones(1, 4, dtype=torch.int64, device=device),
        "use_cache": False,
    }
    was_training = model.training
    model.eval()
    try:
        decoder, module = decoder_and_head(model)
        hidden = decoder(**inputs).last_hidden_state
        large = hidden * (TRIED_AT / module(hidden).abs().max().clamp(min=1e-6))
        expected = model(**inputs).logits
        with _ending_in(decoder, large):
            expected_large = model(**inputs).logits
        guesses = (OutputHead(module, *guess) for guess in _guesses(model))
        return next(
            (g for g in guesses if _same(g.logits(hidden), expected) and _same(g.logits(large), expected_large)), None
        )
    except (AttributeError, TypeError):
        return None
    finally:
        model.train(was_training)


def _guesses(model: nn.Module) -> Iterator[tuple[float, float | None]]:
    """(scale, softcap): what the config names, then nothing."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config

    def numbers(names: tuple[str, ...]) -> list[float]:
        found = (getattr(text, name, None) for name in names)
        return [float(n) for n in found if isinstance(n, int | float) and not isinstance(n, bool) and n > 0]

    scales = [s for number in numbers(SCALES) for s in (number, 1 / number)]
    for softcap in (*numbers(SOFTCAPS), None):
        for scale in (*scales, 1.0):
            yield scale, softcap


@contextmanager
def _ending_in(decoder: nn.Module, hidden: torch.Tensor) -> Iterator[None]:
    """Within it ``decoder`` gives ``hidden`` as its last hidden states."""

    def give(module: nn.Module, arguments: Any, output: Any) -> Any:
        output.last_hidden_state = hidden
        return output

    hook = decoder.register_forward_hook(give)
    try:
        yield
    finally:
        hook.remove()


def _same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    exact = theirs.dtype == torch.float32 and not torch.is_autocast_enabled(theirs.device.type)
    return torch.allclose(ours.float(), theirs.float(), rtol=1e-4 if exact else 2e-2, atol=1e-5 if exact else 2e-2)
