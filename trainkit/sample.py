"""Text from a model: one answer to a conversation, piece by piece."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from registry.errors import RowFault, UsageError
from registry.records import Message
from registry.render import Renderer, SlotRenderer, prompt_of
from registry.templates import Token
from registry.tokenizer import Tokenizer
from trainkit.config import SampleConfig


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said; ``finish_reason`` is ``stop`` or ``length``."""

    text: str
    num_prompt_tokens: int
    num_tokens: int
    finish_reason: str
    seconds: float


def prompt_ids(messages: Sequence[Message], system: str, tokenizer: Tokenizer, renderer: Renderer) -> list[int]:
    """A conversation that ends with the user, as ids up to where the model goes on: encoded as in training.

    Raises ``UsageError`` where the template refuses the conversation.
    """
    try:
        slots = prompt_of(messages, system, renderer)
    except RowFault as fault:
        raise UsageError(fault.reason) from None
    texts = [s for s in slots if isinstance(s, str)]
    encoded = iter(tokenizer.encode_batch(texts))
    own = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    ids: list[int] = []
    for slot in slots:
        if isinstance(slot, Token):
            number = own[slot.of] if slot.of else tokenizer.token_id(slot.text or "")
            ids += [] if number is None else [number]
        else:
            ids += next(encoded)
    return ids


def stop_ids(tokenizer: Tokenizer, renderer: Renderer) -> list[int]:
    """The end of sequence and every stop word of the template."""
    words = renderer.template.stop_words if isinstance(renderer, SlotRenderer) else ()
    found = [tokenizer.eos_id, *(tokenizer.token_id(word) for word in words)]
    return list(dict.fromkeys(i for i in found if i is not None))


@torch.no_grad()
def answer(
    model: nn.Module,
    ids: Sequence[int],
    tokenizer: Tokenizer,
    stops: Sequence[int],
    settings: SampleConfig,
    *,
    limit: int | None,
    on_text: Callable[[str], None] | None = None,
) -> Answer:
    """Go on after ``ids``. ``limit`` is the model's longest sequence. ``on_text`` gets each new piece of text.

    Raises ``UsageError`` where the prompt alone leaves no room for an answer.
    """
    room = settings.max_new_tokens if limit is None else min(settings.max_new_tokens, limit - len(ids))
    if room < 1:
        raise UsageError(
            f"the conversation has {len(ids)} tokens, and the model takes {limit}", mend="Type clear to begin anew."
        )
    sampling: dict[str, Any] = {"do_sample": False}
    if settings.do_sample and settings.temperature > 0:
        sampling = {
            "do_sample": True,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
        }
    device = next(model.parameters()).device
    began = time.monotonic()
    streamer = _Pieces(tokenizer, on_text)
    out = model.generate(  # type: ignore[operator]
        input_ids=torch.tensor([list(ids)], device=device),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64, device=device),
        max_new_tokens=room,
        repetition_penalty=settings.repetition_penalty,
        eos_token_id=list(stops),
        pad_token_id=tokenizer.pad_id if tokenizer.pad_id is not None else stops[0],
        streamer=streamer,
        **sampling,
    )
    new = out[0, len(ids) :].tolist()
    finished = bool(new) and new[-1] in stops
    text = tokenizer.decode(new[:-1] if finished else new, skip_special_tokens=True)
    return Answer(text, len(ids), len(new), "stop" if finished else "length", time.monotonic() - began)


class _Pieces:
    """A streamer for ``generate``: hands on text as soon as its last character is whole (a character may span tokens)."""

    def __init__(self, tokenizer: Tokenizer, on_text: Callable[[str], None] | None) -> None:
        self._tokenizer, self._on_text = tokenizer, on_text
        self._ids: list[int] = []
        self._shown = 0
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:  # generate hands over the prompt first
            self._prompt_seen = True
            return
        self._ids += value.flatten().tolist()
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        if self._on_text and not text.endswith("\ufffd"):
            self._on_text(text[self._shown :])
            self._shown = len(text)

    def end(self) -> None:
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        if self._on_text and text[self._shown :]:
            self._on_text(text[self._shown :])
