"""The memory of a run, part by part, from what its model holds and what a micro-batch takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from trainkit.config import ModelConfig, OptimConfig, RunConfig
from trainkit.data.collate import Batch
from trainkit.forecast.activations import Held, Model
from trainkit.forecast.trace import PHASES, Trace, Traced

# What glibc's allocator holds and does not use, as a share of the blocks below 32 MB at their fullest: it lays short-lived
# tensors between long-lived ones and can give back neither. Measured on steps of models of 20 to 60 million parameters.
HEAP_SHARE = 0.27
# Resident beside the tensors: what the libraries' kernels keep for themselves and load at the first step (oneDNN, autograd).
CPU_RUNTIME = 40 << 20
# CUDA's caching allocator: blocks that are cut and not yet used again; a context is not in the allocator's figures.
GPU_SHARE = 0.03
# bytes a parameter of nf4 / fp4: a half, and an absolute maximum for each 64 (float32; with double quantisation int8 and
# a float32 for each 256 of those): Dettmers et al. 2023, "QLoRA", section 3
FOUR_BIT, FOUR_BIT_TWICE, EIGHT_BIT = 0.5 + 4 / 64, 0.5 + 1 / 64 + 4 / (64 * 256), 1.0
# Optimizers that keep something else than AdamW's two numbers in the weight's own type: bytes a trained parameter.
STATE_BYTES = {
    "sgd": 0.0, "adagrad": 4.0, "adafactor": 0.1, "lomo": 0.0, "adalomo": 0.1, "lion_32bit": 4.0, "paged_lion_32bit": 4.0,
    "lion_8bit": 1.0, "paged_lion_8bit": 1.0, "adamw_8bit": 2.06, "adamw_bnb_8bit": 2.06, "paged_adamw_8bit": 2.06,
    "rmsprop": 4.0, "rmsprop_bnb": 4.0, "rmsprop_bnb_8bit": 1.03, "rmsprop_bnb_32bit": 4.0, "ademamix": 12.0, "ademamix_8bit": 3.1,
    "paged_ademamix_32bit": 12.0, "paged_ademamix_8bit": 3.1, "adamw_torch_8bit": 2.06, "adamw_torch_4bit": 1.06,
}  # fmt: skip
PROJECTED = 0.25  # of AdamW's state: what GaLore and APOLLO leave at their usual ranks
PARTS = ("weights", "gradients", "optimizer", "activations", "head", "workspace", "checkpoint", "allocator")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each device at the fullest moment of a run, by part; ``limit`` is what the device has (None: not known).

    ``activations`` are what the backward pass needs, ``head`` what the logits' chunks and their gradients take,
    ``workspace`` what operations need for a moment. On the CPU ``checkpoint`` is the copy that a checkpoint is written from,
    and ``allocator`` what it holds without using it.
    """

    device: str
    processes: int
    recompute: str
    weights: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    workspace: int
    checkpoint: int
    allocator: int
    limit: int | None

    @property
    def total(self) -> int:
        return sum(getattr(self, name) for name in PARTS)

    @property
    def fits(self) -> bool:
        return self.limit is None or self.total <= self.limit

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "total": self.total, "fits": self.fits}


def forecast_memory(
    config: RunConfig,
    model: Model,
    batch: Batch,
    *,
    device: str,
    processes: int = 1,
    recompute: str = "none",
    limit: int | None = None,
) -> Memory:
    """The memory of a run whose largest micro-batch is ``batch``, on each of ``processes`` devices of kind ``device``.

    Raises ``CannotFollow`` (``trainkit.forecast.build``) for an architecture that cannot be built from its config.
    """
    held = model.held(config, device)
    traced = model.follow(config, batch, device, recompute)
    accumulates = config.loop.gradient_accumulation_steps > 1
    weights = held.weights[0] - saved_by_quantising(config.model, held)
    optimizer = int(state_bytes(config.optim, held))
    gradients, parts = _divided(traced.every, held.trained_weights[0], accumulates=accumulates)
    weights, gradients, optimizer, gathered = _shares(config, held, weights, gradients, optimizer, processes)
    parts["workspace"] += gathered
    in_use = weights + gradients + optimizer + sum(parts.values())
    checkpoint = 0
    if device == "cpu":
        small_weights, small_trained = held.weights[1], held.trained_weights[1]
        share = optimizer / max(held.trained_weights[0], 1)
        small = small_weights + small_trained * (share + accumulates) + traced.small.peak
        allocator = int(HEAP_SHARE * small + _apart(traced)) + CPU_RUNTIME
        # A checkpoint's copy is made with neither gradients nor activations, and is there while the next steps run.
        copy = held.trained_weights[0] + (0 if config.loop.save_only_model else optimizer)
        if config.loop.save_strategy != "no":
            checkpoint = max(0, weights + optimizer + copy - in_use)
    else:
        allocator = int(GPU_SHARE * in_use)
    return Memory(
        device, processes, recompute, weights, gradients, optimizer, **parts, checkpoint=checkpoint,
        allocator=allocator, limit=limit,
    )  # fmt: skip


def _apart(traced: Traced) -> float:
    """What the small blocks' heap keeps when the large ones are at their fullest: each kind has its own moment."""
    phases = [(getattr(traced.every, name), getattr(traced.small, name)) for name in PHASES[1:]]
    return max(small for _, small in phases) + max(every - small for every, small in phases) - traced.every.peak


def _divided(trace: Trace, trained: int, *, accumulates: bool) -> tuple[int, dict[str, int]]:
    """(gradients, the other parts) at the fullest moment: before the backward pass, or at its end with all gradients."""
    at_end = trace.first >= trace.peak
    own = 0 if accumulates or not at_end else min(trained, int(trace.peak))  # gradients that the trace counts
    rest = trace.peak - own
    activations = 0 if at_end else min(trace.kept, rest)
    head = 0 if at_end else min(max(trace.head - trace.kept, 0), rest - activations)
    parts = {"activations": int(activations), "head": int(head), "workspace": int(rest - activations - head)}
    return (trained if accumulates else own), parts


def saved_by_quantising(settings: ModelConfig, held: Held) -> int:
    """Bytes by which a quantised base is smaller than the one it was followed as: its linear layers, not the head."""
    if settings.quantization_bit is None:
        return 0
    each = EIGHT_BIT if settings.quantization_bit == 8 else FOUR_BIT_TWICE if settings.double_quantization else FOUR_BIT
    frozen = held.weights[0] - held.trained_weights[0]
    width = frozen / max(held.parameters - held.trained, 1)
    return int((held.work.body - held.work.body_trained) * (width - each))


def state_bytes(settings: OptimConfig, held: Held) -> float:
    """What the optimizer keeps for the trained parameters."""
    usual = 2 * held.trained_weights[0]
    if settings.use_galore or settings.use_apollo or settings.optim.startswith(("galore", "apollo")):
        return usual * PROJECTED
    if settings.use_badam:
        return usual / 8  # one block at a time
    if settings.use_adam_mini or settings.use_muon:
        return usual / 2
    each = STATE_BYTES.get(settings.optim)
    return usual if each is None else each * held.trained


def _shares(
    config: RunConfig, held: Held, weights: int, gradients: int, optimizer: int, processes: int
) -> tuple[int, int, int, int]:
    """(weights, gradients, optimizer, what is gathered for a moment) of one of several processes."""
    from trainkit.backends import choose_backend

    name = choose_backend(config.backend, processes)
    if processes == 1:
        return weights, gradients, optimizer, 0
    stage = 3 if name == "fsdp2" else zero_stage(config) if name == "deepspeed" else 0
    if stage >= 1:
        optimizer //= processes
    if stage >= 2:
        gradients //= processes
    if stage < 3:
        return weights, gradients, optimizer, 0
    # two layers at a time (one computes while the next is gathered), and the embeddings with the head
    outside = max(held.work.head * 4, 0)
    return weights // processes, gradients, optimizer, 2 * held.largest_layer + outside


def zero_stage(config: RunConfig) -> int:
    """The ZeRO stage of a run's DeepSpeed JSON; 0 where it names none."""
    from trainkit.backends.deepspeed_config import read_deepspeed

    found, _ = read_deepspeed(config.backend.deepspeed)
    return int(((found or {}).get("zero_optimization") or {}).get("stage", 0))
