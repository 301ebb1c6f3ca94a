"""Examples to padded tensors, with the counts that a loss will be divided by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any

import numpy as np
import torch

from registry.encode import IGNORE, Example, FeedbackExample, PreferenceExample
from registry.packed import Packed, join_block
from registry.packing import pack_lengths
from trainkit.data.batching import PAD_MULTIPLE

WORTH_PACKING = 0.9  # of the padded places; a row of several examples needs a mask of its own, which costs a little


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How the examples of a micro-batch lie in its rows: several in a row of up to ``row_len`` tokens (or of the longest
    example, where that is longer), rows filled up to a multiple of ``multiple``; each row of that very length where
    ``constant``. It changes no loss: examples never see each other."""

    row_len: int
    multiple: int = PAD_MULTIPLE
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch, B rows of T tokens, padded on the right (prompts: on the left).

    ``input_ids``, ``attention_mask`` and ``labels`` are int64 [B, T]; labels are not shifted (``trainkit.logprobs``
    does that) and hold ``IGNORE`` where nothing is trained. ``weight`` is what the batch adds to the divisor of its
    step: trained tokens (each by its weight), or pairs, or rows of feedback. ``indices`` are the examples' numbers in
    the data set.

    A sequence is a row, unless ``documents`` (int64 [B, T], -1 in the padding) tells which of ``num_documents``
    sequences each token belongs to. Of preference pairs the first half of the sequences is chosen, the second
    rejected. ``kl`` holds the KL rows of feedback, one for each row in the same order; ``desirable`` (bool, one for
    each row) what was thought of them.

    A packed batch has ``position_ids`` (int64 [B, T], from 0 in each example) and no mask: that is how transformers
    is told to keep examples apart. ``weights`` (float32 [B, T]) are there where answers weigh differently.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    labels: torch.Tensor
    weight: float
    num_tokens: int
    indices: tuple[int, ...]
    position_ids: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    desirable: torch.Tensor | None = None
    joined: bool = False  # packed examples see each other, as in LLaMA-Factory's plain packing
    documents: torch.Tensor | None = None
    num_documents: int = 0
    kl: Batch | None = None
    idle: bool = False  # adds nothing: it keeps a rank that has no micro-batch left in step with the others
    # Worked out once, where the batch is made, since a GPU would have to be waited for: [2, N], row and place of each token
    # that a trained one is predicted from; of a packed batch where its sequences begin, all rows laid end to end (int32
    # [sequences + 1], the end too), and the length of the longest.
    trained: torch.Tensor | None = field(init=False, default=None)
    starts: torch.Tensor | None = field(init=False, default=None)
    longest: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.labels.device.type != "cpu":
            return
        object.__setattr__(self, "trained", torch.nonzero(self.labels[:, 1:] != IGNORE).T.contiguous())
        if self.position_ids is not None and not self.joined:
            check_apart(self.position_ids, self.attention_mask)
            starts, longest = stretches(self.position_ids)
            object.__setattr__(self, "starts", starts)
            object.__setattr__(self, "longest", longest)

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        if self.labels.device == device:
            return self
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The same batch in memory that a GPU can copy from while it computes."""
        return self._with(lambda tensor: tensor.pin_memory())

    def _with(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        changed: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, torch.Tensor):
                changed[f.name] = change(value)
        worked_out = {name: changed.pop(name) for name in ("trained", "starts") if name in changed}
        if self.kl is not None:
            changed["kl"] = self.kl._with(change)
        batch = replace(self, **changed)
        for name, value in worked_out.items():
            object.__setattr__(batch, name, value)
        object.__setattr__(batch, "longest", self.longest)
        return batch

    def as_idle(self) -> Batch:
        """The same tokens, weighing nothing."""
        return replace(self, weight=0, num_tokens=0, idle=True)

    @property
    def num_sequences(self) -> int:
        """Rows, or documents where several share a row."""
        return self.num_documents if self.documents is not None else self.input_ids.shape[0]


def collate_sequences(
    examples: Sequence[Example], indices: Sequence[int], pad_id: int, *, strict: bool, layout: RowLayout | None = None
) -> Batch:
    """A batch of single sequences. Its weight is that of the labels that have a token before them to be predicted
    from; ``strict`` counts a trained first token too, as LLaMA-Factory does in pt."""
    laid = _laid(examples, pad_id, layout)
    return Batch(weight=_weight(laid["labels"], laid["weights"], strict=strict), indices=tuple(indices), **laid)


def collate_packed(
    blocks: Sequence[Sequence[Example]],
    indices: Sequence[Sequence[int]],
    pad_id: int,
    *,
    block_len: int,
    strict: bool = False,
    neat: bool = True,
) -> Batch:
    """A batch of blocks of ``block_len`` tokens each, examples after one another; ``indices`` are the examples' numbers
    block by block.

    Examples never see each other, and the first token of each is not trained (``strict`` trains it, as LLaMA-Factory
    0.9.5). Only ``strict`` without ``neat``, LLaMA-Factory's plain packing, has a mask of ones, padding too: there
    they do see each other. Raises ``ValueError`` where a block's examples do not fit.
    """
    joined = [join_block(examples, block_len, pad_id, strict=strict) for examples in blocks]
    ids = _rows([b.ids for b in joined], block_len, pad_id, np.int64)
    positions = _rows([b.positions for b in joined], block_len, 0, np.int64)
    labels = _rows([b.labels for b in joined], block_len, IGNORE, np.int64)
    weights = _weights_of(joined, block_len)
    mask = None
    joined_up = strict and not neat
    if joined_up:
        mask = torch.ones_like(ids)
    num_tokens = sum(len(example.ids) for block in blocks for example in block)
    weight = _weight(labels, weights, strict=strict)
    return Batch(
        ids, mask, labels, weight, num_tokens, tuple(chain.from_iterable(indices)), positions, weights, joined=joined_up
    )


def check_apart(position_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> None:
    """Raise ``ValueError`` where positions start again at a token that a mask [B, T] lets see what is before it.

    Such a mask wins over the positions: examples would see each other, and nothing else would tell.
    """
    if attention_mask is None:
        return
    restarts = (position_ids[:, 1:] == 0) & (attention_mask[:, 1:] != 0) & (attention_mask[:, :-1] != 0)
    if restarts.any():
        raise ValueError(
            "positions restart within a row whose attention mask is all ones: packed examples would see each other. "
            "Give packed batches no mask."
        )


def stretches(position_ids: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Where the sequences of packed rows [B, T] begin, all rows laid end to end, with the end (int32 [sequences + 1]); and
    the length of the longest."""
    begins = position_ids == 0
    begins[:, 0] = True
    starts = torch.cat((torch.nonzero(begins.flatten())[:, 0], torch.tensor([position_ids.numel()]))).int()
    return starts, int(starts.diff().max())


def collate_pairs(
    examples: Sequence[PreferenceExample],
    indices: Sequence[int],
    pad_id: int,
    *,
    strict: bool,
    layout: RowLayout | None = None,
) -> Batch:
    """A batch of preference pairs, all chosen and then all rejected. Its weight is the number of pairs."""
    laid = _laid([e.chosen for e in examples] + [e.rejected for e in examples], pad_id, layout)
    return Batch(weight=len(examples), indices=tuple(indices), **laid)


def collate_feedback(
    examples: Sequence[FeedbackExample],
    indices: Sequence[int],
    pad_id: int,
    *,
    strict: bool,
    layout: RowLayout | None = None,
) -> Batch:
    """A batch of judged answers, with the same prompts under other rows' answers (the KL rows) as ``kl``, in the same
    order. Its weight is the number of judged answers."""
    desirable = torch.tensor([e.desirable for e in examples], dtype=torch.bool)
    laid, others = (
        _laid(sequences, pad_id, layout) for sequences in ([e.own for e in examples], [e.kl for e in examples])
    )
    kl = Batch(weight=len(examples), indices=tuple(indices), **others)
    laid["num_tokens"] += kl.num_tokens
    return Batch(weight=len(examples), indices=tuple(indices), desirable=desirable, kl=kl, **laid)


def collate_prompts(prompts: Sequence[Sequence[int]], indices: Sequence[int], pad_id: int) -> Batch:
    """A batch of prompts to go on from, so padded on the left and to no more than the longest; nothing is trained."""
    longest = max(map(len, prompts))
    ids = _rows(prompts, longest, pad_id, np.int64, left=True)
    mask = _rows([[1] * len(p) for p in prompts], longest, 0, np.int64, left=True)
    return Batch(ids, mask, torch.full_like(ids, IGNORE), 0, int(mask.sum()), tuple(indices))


def _weight(labels: torch.Tensor, weights: torch.Tensor | None, *, strict: bool) -> float:
    """How much the labels weigh together: their number, where they have no weights."""
    trained = labels != IGNORE
    if not strict:
        trained[:, 0] = False  # nothing is before it
    return int(trained.sum()) if weights is None else float(weights[trained].sum(dtype=torch.float64))


def _laid(examples: Sequence[Example], pad_id: int, layout: RowLayout | None) -> dict[str, Any]:
    """The fields of a batch that hold tokens: a sequence a row, or several where ``layout`` says so and it pays."""
    longest = max(len(e.ids) for e in examples)
    length = _up(longest, PAD_MULTIPLE)
    if layout is not None:
        lengths = [len(e.ids) for e in examples]
        rows = [sorted(row) for row in pack_lengths(lengths, max(longest, layout.row_len))]
        fullest = max(sum(lengths[n] for n in row) for row in rows)
        row_len = _up(max(longest, layout.row_len) if layout.constant else fullest, layout.multiple)
        if layout.constant or len(rows) * row_len <= WORTH_PACKING * len(examples) * length:
            return _shared_rows(examples, rows, row_len, pad_id)
    ids = _rows([e.ids for e in examples], length, pad_id, np.int64)
    mask = _rows([[1] * len(e.ids) for e in examples], length, 0, np.int64)
    labels = _rows([e.labels for e in examples], length, IGNORE, np.int64)
    weights = None
    if any(e.weights is not None for e in examples):
        own = [e.weights if e.weights is not None else [1.0] * len(e.ids) for e in examples]
        weights = _rows(own, length, 0.0, np.float32)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "weights": weights,
        "num_tokens": int(mask.sum()),
    }


def _shared_rows(
    examples: Sequence[Example], rows: Sequence[Sequence[int]], row_len: int, pad_id: int
) -> dict[str, Any]:
    joined = [join_block([examples[n] for n in row], row_len, pad_id, strict=False) for row in rows]
    documents = np.full((len(rows), row_len), -1, np.int64)
    for line, row in zip(documents, rows, strict=True):
        at = 0
        for number in row:
            line[at : at + len(examples[number].ids)] = number
            at += len(examples[number].ids)
    return {
        "input_ids": _rows([b.ids for b in joined], row_len, pad_id, np.int64),
        "attention_mask": None,
        "labels": _rows([b.labels for b in joined], row_len, IGNORE, np.int64),
        "weights": _weights_of(joined, row_len),
        "position_ids": _rows([b.positions for b in joined], row_len, 0, np.int64),
        "documents": torch.from_numpy(documents),
        "num_documents": len(examples),
        "num_tokens": sum(len(e.ids) for e in examples),
    }


def _weights_of(blocks: Sequence[Packed], length: int) -> torch.Tensor | None:
    """float32 [B, length] where some block has weights of its own; the others weigh 1 throughout."""
    if all(b.weights is None for b in blocks):
        return None
    return _rows([b.weights if b.weights is not None else [1.0] * length for b in blocks], length, 0.0, np.float32)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _rows(rows: Iterable[Sequence[float]], length: int, fill: float, kind: Any, *, left: bool = False) -> torch.Tensor:
    """``rows`` as a tensor [B, length], each filled up with ``fill``."""
    rows = list(rows)
    table = np.full((len(rows), length), fill, dtype=kind)
    for line, row in zip(table, rows, strict=True):
        line[length - len(row) if left else 0 : length if left else len(row)] = row
    return torch.from_numpy(table)
