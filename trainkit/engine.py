"""The moving parts of a run: the model and its objective on a backend, the optimizer, and where a stopped run left them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from registry.errors import UsageError
from trainkit.backends.base import Backend, Trainable
from trainkit.chat_template import chat_template_of
from trainkit.checkpoint import Checkpoint, check_trained, load_optimizer_tensors, load_random_state
from trainkit.claim import Claim
from trainkit.config import LoopConfig, ModelConfig, RunConfig
from trainkit.data.blocks import is_packed
from trainkit.data.collate import RowLayout
from trainkit.data.feed import Data
from trainkit.data.stream_feed import StreamData
from trainkit.forecast.flops import Work, work_of
from trainkit.head import find_head
from trainkit.head_kernels import with_kernel
from trainkit.health import Health
from trainkit.hub import adapter_folders
from trainkit.layout import Layout, layout_of
from trainkit.logprobs import keeps_packed_apart
from trainkit.methods import pissa
from trainkit.methods.adapters import last_adapter
from trainkit.model import align_special_ids, check_room, load_frozen, load_trainable, tokenizer_to_save
from trainkit.neftune import add_noise
from trainkit.objective import Objective, ValueHead, load_value_head
from trainkit.optimizers.build import build_optimizer
from trainkit.quantize import num_weights
from trainkit.rules import render_rules
from trainkit.stages import STAGES, Settings

log = logging.getLogger("tunekit")

CPU_ROW = 512  # tokens; longer rows of several examples pay more for the mask than they save in padding
GPU_ROW = 4096


@dataclass(frozen=True)
class Engine:
    """The model with everything that moves it. ``model`` is transformers' or peft's own, ``objective`` what the backend
    wraps; ``layout`` how it is saved; ``row_layout`` how unpacked micro-batches lie in rows."""

    model: nn.Module
    objective: Objective
    trainable: Trainable
    backend: Backend
    health: Health
    layout: Layout
    row_layout: RowLayout | None
    work: Work
    recompute: str
    num_weights: int

    @property
    def state_bytes(self) -> int:
        """What the optimizer will keep for the trained parameters from its first step on, as AdamW does: two numbers each."""
        return sum(2 * parameter.numel() * parameter.element_size() for _, parameter in self.trainable)

    @property
    def shapes(self) -> dict[str, list[int]]:
        """The trained parameters' names and shapes, by which a checkpoint of another model is told."""
        # DeepSpeed's ZeRO-3 leaves an empty tensor where the weight is shared out
        return {name: list(getattr(parameter, "ds_shape", parameter.shape)) for name, parameter in self.trainable}


def build_engine(
    config: RunConfig, claim: Claim, data: Data | StreamData, backend: Backend, *, recompute: str
) -> Engine:
    """Model, adapter, objective, optimizer; with the saved weights over the fresh ones where a run goes on. All ranks.

    ``recompute``: "none", "selective" or "full", which activations are computed again in the backward pass. Raises
    ``UsageError`` for a model that cannot do what the config asks.
    """
    loop, resumed = config.loop, claim.checkpoint.path if claim.checkpoint else None
    torch.manual_seed(loop.seed)  # every rank draws the same new weights
    model = load_trainable(
        with_attention(config, backend.device), config.method, bf16=loop.bf16, device=backend.device, tokenizer=data.tokenizer,
        cutoff_len=config.data.cutoff_len, seed=loop.seed, resumed=resumed,
    )  # fmt: skip
    if backend.rank == 0:
        pissa.keep_initial(model, claim.folder, resumed or last_adapter(config.model, config.method))
    check_room(model, data.tokenizer)
    align_special_ids(model.get_base_model() if hasattr(model, "peft_config") else model, data.tokenizer)  # type: ignore[operator]
    if backend.name in ("single", "ddp"):  # what is tried out below is tried where it will run
        model = model.to(backend.device)
    objective = make_objective(config, model, backend, resumed)
    switch_recompute(model, loop, recompute)
    if recompute != "none":
        log.info("activations are recomputed in the backward pass (%s)", recompute)
    layout = layout_of(model, saved_tokenizer(config, data))
    row_layout = choose_rows(config, model, backend)
    if config.loss.neftune_noise_alpha:
        add_noise(model, config.loss.neftune_noise_alpha)
    work = work_of(model)  # before the backend shares the weights out
    count = sum(num_weights(parameter) for parameter in objective.parameters())
    trainable: Trainable = []

    def make_optimizer(parameters: Trainable) -> torch.optim.Optimizer:
        trainable.extend(parameters)
        own = [(name.removeprefix("model."), parameter) for name, parameter in parameters]  # as the model names them
        return build_optimizer(config.optim, config.method, model, own)

    backend.prepare(objective, make_optimizer)
    if backend.device.type == "cuda" and backend.name in ("single", "ddp") and objective.head is not None:
        with backend.autocast():
            objective.head = with_kernel(objective.head)
    compile_layers(model, loop)
    return Engine(
        model,
        objective,
        trainable,
        backend,
        Health(backend.device, objective.kept),
        layout,
        row_layout,
        work,
        recompute,
        count,
    )


def make_objective(config: RunConfig, model: nn.Module, backend: Backend, resumed: Path | None) -> Objective:
    """The stage's objective around ``model``, its value head loaded where a reward model (or a checkpoint) has one."""
    stage, kept = STAGES[config.stage], {}
    way = stage.way(
        Settings(config.preference, config.loss, backend.device, backend.sum, kept, config.loop.compute_accuracy)
    )
    v_head = None
    if stage.has_value_head:
        size = model.config.get_text_config().hidden_size  # type: ignore[union-attr, operator]
        v_head = ValueHead(size)
        given = [*adapter_folders(config.model), config.model.model_name_or_path]
        load_value_head(resumed or Path(given[0]), v_head)
        leave_logits_alone(model)
    anchor = None
    if config.loss.use_asft_loss and not hasattr(model, "disable_adapter"):
        anchor = base_of(config, model, backend.device, resumed)
    with backend.autocast():  # weights of several types meet in one pass
        head = find_head(model)
    objective = Objective(model, way, head, v_head=v_head, anchor=anchor)
    objective.kept, objective.autocast = kept, backend.autocast
    return objective


def with_attention(config: RunConfig, device: torch.device) -> ModelConfig:
    """The model's settings with ``flash_attn: auto`` made out: on a GPU that computes in bf16, FlashAttention where it is
    installed and rows hold several examples. sdpa needs a mask there, whose cost grows with the square of the row."""
    settings = config.model
    shared = is_packed(config) or not config.strict
    if settings.flash_attn != "auto" or device.type != "cuda" or not (config.loop.bf16 or config.method.pure_bf16):
        return settings
    from transformers.utils import is_flash_attn_2_available

    return replace(settings, flash_attn="fa2") if shared and is_flash_attn_2_available() else settings


def leave_logits_alone(model: nn.Module) -> None:
    """Freeze a head of its own: no logits are made here, so it gets no gradient, and ddp waits for one of every weight."""
    head, inputs = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[operator]
    if head is not None and getattr(head, "weight", None) is not inputs.weight:
        head.requires_grad_(False)


def base_of(config: RunConfig, model: nn.Module, device: torch.device, resumed: Path | None) -> nn.Module:
    """The model as it is before the first step, a second time and frozen; of a resumed run it is loaded again."""
    import copy

    if resumed is None:
        return copy.deepcopy(model).requires_grad_(False).eval().to(device)
    name, adapters = config.model.model_name_or_path, config.model.adapter_name_or_path
    return load_frozen(
        config.model, name, adapters, config.model.quantization_bit, bf16=config.loop.bf16, device=device
    )


def saved_tokenizer(config: RunConfig, data: Data | StreamData) -> Any:
    """transformers' tokenizer as it is saved beside the model, with the chat template that was trained."""
    chat_template = None
    if config.stage != "pt":  # text has no turns, so a model that only read text keeps the template it had
        chat_template = chat_template_of(config.data.template, data.tokenizer, render_rules(config))
    return tokenizer_to_save(config.model, data.tokenizer, data.tokenizer_folder, chat_template)


def switch_recompute(model: nn.Module, loop: LoopConfig, recompute: str) -> None:
    """Have activations computed again in the backward pass: all layers' ("full"), or every second layer's ("selective");
    ``gradient_checkpointing_kwargs`` may say otherwise of ``every_n_layers``, and may ``offload`` what is kept."""
    if recompute == "none":
        return
    # not the reentrant kind: it needs inputs that require a gradient, and frozen embeddings give none
    options = {"use_reentrant": False} | (loop.gradient_checkpointing_kwargs or {})
    every, offload = options.pop("every_n_layers", 2 if recompute == "selective" else 1), options.pop("offload", False)
    model.activation_checkpointing_enable(options, every_n_layers=every, offload=offload)  # type: ignore[operator]


def compile_layers(model: nn.Module, loop: LoopConfig) -> None:
    """Compile each decoder layer in place: one graph serves them all, and the rest of the model stays as it is."""
    if not (loop.torch_compile or loop.torch_compile_backend or loop.torch_compile_mode):
        return
    options = {"backend": loop.torch_compile_backend or "inductor", "mode": loop.torch_compile_mode}
    for layer in decoder_layers(model):
        layer.compile(**options)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of the model: those of the classes that it says must not be split."""
    named = set(getattr(model, "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in named]


def choose_rows(config: RunConfig, model: nn.Module, backend: Backend) -> RowLayout | None:
    """How unpacked micro-batches lie in rows: several examples in a row where the model keeps them apart.

    ``packing: true`` makes all rows ``cutoff_len`` long, in every stage; ``compat: strict`` keeps an example a row. Raises
    ``UsageError`` where packing was asked for and the model would let packed examples see each other.
    """
    packed_sft = is_packed(config)
    asked = bool(config.data.packing) and config.stage in ("rm", "dpo", "kto")
    if config.strict and not asked and not (packed_sft and config.data.neat_packing):
        return None
    with backend.autocast():
        apart = keeps_packed_apart(model)
    if apart:
        on_gpu = backend.device.type == "cuda"
        if asked:
            return RowLayout(config.data.cutoff_len, 64 if on_gpu else 8, constant=True)
        return None if config.strict else RowLayout(GPU_ROW if on_gpu else CPU_ROW, 64 if on_gpu else 8)
    if packed_sft or asked:
        raise UsageError(
            "this kind of model cannot keep packed examples apart: what comes first in a block reaches what comes after",
            where=config.model.model_name_or_path,
            mend="Remove packing and neat_packing; batching_strategy: token_balanced saves padding without them.",
        )
    return None


def go_on(engine: Engine, checkpoint: Checkpoint) -> None:
    """Optimizer, random state and what the loss keeps, from the checkpoint that a run goes on with. All ranks.

    Raises ``UsageError`` where the checkpoint is of another model.
    """
    check_trained(checkpoint, engine.shapes)
    engine.backend.load_optimizer_state(load_optimizer_tensors(checkpoint))
    engine.backend.set_random_state(load_random_state(checkpoint))
    for name, value in checkpoint.state.get("kept", {}).items():
        if name in engine.objective.kept:
            engine.objective.kept[name].fill_(value)


def with_rows(data: Data | StreamData, engine: Engine) -> Data | StreamData:
    """The data of a run, laid out in rows as its model allows."""
    return replace(data, layout=engine.row_layout)
