"""Rows for new tokens: the embeddings (and the head) of a model grown to its tokenizer, and how the new rows begin."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from registry.tokenizer import Tokenizer
from trainkit.config import ModelConfig
from trainkit.new_tokens import descriptions, grows
from trainkit.parameters import grown_rows, weight_shapes

log = logging.getLogger("tunekit")


def resize_to(model: nn.Module, tokenizer: Tokenizer, settings: ModelConfig, *, seed: int) -> tuple[str, ...]:
    """Grow the embeddings of a base without adapters to the ids of its tokenizer, in place, where a config asks for it.

    Returns the last names of the modules whose rows are to be trained with an adapter (a tied head comes with its
    embeddings): none where nothing was asked for, or every new token was known. New rows begin as the mean of the old ones and noise of the width 1/√dim; those
    of tokens with a description, where ``init_special_tokens`` says so, as the mean of the description's rows (also
    where the model had the row: tokenizers often end before their model). The same ``seed`` gives the same rows.
    Raises ``UsageError`` for a quantised model, and for a head that is no linear layer.
    """
    if tokenizer.added_tokens and not settings.resize_vocab:
        log.warning("%s: new tokens, so resize_vocab is on", ", ".join(tokenizer.added_tokens))
    if not grows(settings, tokenizer):
        return ()
    embeddings, head = _rows_of(model)
    old = embeddings.weight.shape[0]
    rng = torch.Generator().manual_seed(seed)
    if tokenizer.size > old:
        _grow(model, grown_rows(old, tokenizer.size))
        embeddings, head = _rows_of(model)
        for module in _own_weights(embeddings, head):
            begin_as_mean(module.weight, old, rng)
        log.info("the vocabulary grows from %d rows to %d, for %d ids", old, embeddings.weight.shape[0], tokenizer.size)
    if settings.init_special_tokens != "noise_init":
        told = _told(tokenizer, descriptions(settings))
        noise = settings.init_special_tokens == "desc_init_w_noise"
        known = min((old, *(tokenizer.token_id(token) or 0 for token in tokenizer.added_tokens)))
        for module in _own_weights(embeddings, head):
            begin_as_described(module.weight, told, known, rng if noise else None)
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    return tuple(names[id(module)] for module in _own_weights(embeddings, head))


def with_new_rows(asked: Sequence[str] | None, grown: Sequence[str]) -> tuple[str, ...]:
    """``additional_target`` with the modules that got new rows, where it names none (as LLaMA-Factory 0.9.5)."""
    if grown and not asked:
        log.warning("the vocabulary has grown, so all of %s is trained and saved with the adapter", " and ".join(grown))
        return tuple(grown)
    asked = tuple(asked or ())
    if missing := [name for name in grown if name not in {one.rpartition(".")[2] for one in asked}]:
        log.warning("the rows of new tokens stay as they begin: additional_target lacks %s", ", ".join(missing))
    return asked


def fit_to_adapter(model: nn.Module, adapter: str | Path) -> None:
    """Grow a base, in place, to the rows of an adapter that was trained with new tokens and holds the embeddings."""
    shapes = weight_shapes(Path(adapter), prefix="adapter_model")
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[operator]
    names = [name for name, module in model.named_modules() if module is embeddings or module is head]
    held = [shapes[key][0] for key in (f"base_model.model.{name}.weight" for name in names) if key in shapes]
    if held and max(held) > embeddings.weight.shape[0]:
        _grow(model, max(held))


@torch.no_grad()
def begin_as_mean(weight: torch.Tensor, old: int, rng: torch.Generator) -> None:
    """Rows from ``old`` on of ``weight`` [rows, dim]: the mean of the rows before, and noise of deviation 1/√dim."""
    mean = weight[:old].float().mean(dim=0, keepdim=True)
    noise = torch.randn((weight.shape[0] - old, weight.shape[1]), generator=rng) / math.sqrt(weight.shape[1])
    weight[old:] = (mean + noise.to(mean.device)).to(weight.dtype)


@torch.no_grad()
def begin_as_described(
    weight: torch.Tensor, told: Mapping[int, Sequence[int]], known: int, rng: torch.Generator | None
) -> None:
    """Rows of ``weight`` [rows, dim] by the ids of their tokens: the mean of the rows of the description's ids, of those
    that are no new ones (below ``known``), and with ``rng`` noise of deviation 1/√dim.

    Where none is left it is the mean of all ``known`` rows.
    """
    dim = weight.shape[1]
    before = weight[:known].float()
    for row, ids in told.items():
        old = [i for i in ids if i < known]
        begun = before[old].mean(dim=0) if old else before.mean(dim=0)
        if rng is not None:
            begun = begun + torch.randn(dim, generator=rng).to(begun.device) / math.sqrt(dim)
        weight[row] = begun.to(weight.dtype)


def _told(tokenizer: Tokenizer, texts: Mapping[str, str]) -> dict[int, list[int]]:
    """The ids of each new token's description, by the token's id. Tokens that the tokenizer had keep their rows."""
    new = [token for token in texts if token in tokenizer.added_tokens]
    if empty := [token for token in new if not texts[token].strip()]:
        log.warning("no description of %s: these begin as the mean of all rows", ", ".join(empty))
    ids = tokenizer.encode_batch([texts[token] for token in new])
    return {tokenizer.token_id(token): found for token, found in zip(new, ids, strict=True)}  # type: ignore[misc]


def _rows_of(model: nn.Module) -> tuple[Any, Any]:
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(embeddings, nn.Embedding) or not isinstance(head, nn.Linear):
        raise UsageError(
            f"the vocabulary of {type(model).__name__} cannot grow: its head is a {type(head).__name__}",
            mend="Remove resize_vocab and the new tokens.",
        )
    return embeddings, head


def _own_weights(embeddings: Any, head: Any) -> list[Any]:
    """The modules whose weights are tensors of their own: a tied head has none."""
    return [embeddings] if head.weight is embeddings.weight else [embeddings, head]


def _grow(model: Any, rows: int) -> None:
    if getattr(model, "is_quantized", False):
        raise UsageError(
            "the vocabulary of a quantised model cannot grow",
            mend="Remove quantization_bit, or resize_vocab and the new tokens.",
        )
    model.resize_token_embeddings(rows, mean_resizing=False)
