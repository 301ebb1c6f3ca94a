"""One run of ``benchmarks/gpu.py`` in a process of its own: by trainkit's engine, by transformers' Trainer or by TRL."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.gpu_cells import RUNGS, STEP, Cell, model_keys
from benchmarks.gpu_rows import draw, flops_of, inputs_of, micro_batches, num_tokens
from benchmarks.models import SHAPES, config_of
from registry.encode import Example
from trainkit.forecast.flops import work_of

WARM = 3  # steps that are not counted: the first compiles, the second fills the allocator
SEED = 0


class Clock:
    """Seconds of the counted steps; a GPU is waited for at their beginning and their end alone."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._began = self.seconds = 0.0

    def begin(self) -> None:
        self._wait()
        self._began = time.perf_counter()

    def end(self) -> None:
        self._wait()
        self.seconds = time.perf_counter() - self._began

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def measure(cell: Cell) -> dict[str, Any]:
    """The run: tokens a second, FLOP/s, peak memory in bytes, losses. Raises ``torch.OutOfMemoryError``."""
    vocab_size = SHAPES[cell.shape]["vocab_size"]
    step_tokens = STEP if cell.device == "cuda" else 4 * cell.length
    steps = [draw(n, vocab_size, cell.length, step_tokens) for n in range(WARM + cell.steps)]
    clock = Clock(cell.device)
    run = {"trainkit": ours, "trainer": theirs, "trl": theirs}[RUNGS[cell.rung].library]
    model = make_model(cell)
    losses, work = run(cell, model, steps, clock)
    counted = steps[WARM:]
    peak = torch.cuda.max_memory_allocated() if cell.device == "cuda" else 0
    return {
        "tokens_per_second": sum(map(num_tokens, counted)) / clock.seconds,
        "flops_per_second": sum(flops_of(step, work) for step in counted) / clock.seconds,
        "peak": peak, "losses": losses, "rows": cell.rows,
    }  # fmt: skip


def make_model(cell: Cell) -> nn.Module:
    """Random weights, made on the device: of a frozen base, and of a ``pure`` run, in bfloat16, else in float32."""
    from transformers import Qwen2ForCausalLM

    dtype = torch.bfloat16 if cell.pure or cell.method == "lora" else torch.float32
    torch.manual_seed(SEED)
    config = config_of(cell.shape, attn_implementation=cell.attention, use_cache=False, dtype=dtype)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(cell.device):
            model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return model


def ours(cell: Cell, model: nn.Module, steps: Sequence[Sequence[Example]], clock: Clock) -> tuple[list[float], Any]:
    """By the engine's own parts, in the order of ``trainkit.engine.build_engine``; below "fused" the model makes all
    logits."""
    from trainkit.backends.single import Single
    from trainkit.config import load_config
    from trainkit.engine import compile_layers, make_objective, switch_recompute
    from trainkit.head_kernels import with_kernel
    from trainkit.health import Health
    from trainkit.methods import METHODS
    from trainkit.optimizers.build import build_optimizer
    from trainkit.precision import set_precision
    from trainkit.step import optimizer_step

    rung, config = RUNGS[cell.rung], load_config(model_keys(cell))
    backend = Single(use_cpu=config.loop.use_cpu, bf16=config.loop.bf16)
    model = METHODS[cell.method](model, config.method)
    set_precision(model, bf16=config.loop.bf16, pure_bf16=cell.pure, upcast_layernorm=False)
    objective = make_objective(config, model, backend, None)
    switch_recompute(model, config.loop, "full" if rung.recompute else "none")
    backend.prepare(objective, lambda parameters: build_optimizer(config.optim, config.method, model, parameters))
    with backend.autocast():
        objective.head = with_kernel(objective.head) if rung.fused else None
    compile_layers(model, config.loop)
    health, reports = Health(backend.device, objective.kept), []
    objective.train()
    for number, examples in enumerate(steps):
        if number == WARM:
            clock.begin()
        batches = micro_batches(examples, cell.length, cell.rows, packed=rung.packed)
        if cell.device == "cuda":
            batches = [batch.pinned() for batch in batches]
        report = optimizer_step(backend, batches, [None] * len(batches), lr=1e-5, max_grad_norm=1.0, health=health)
        reports.append(report.loss)
    clock.end()
    return [float(loss) for loss in reports], work_of(model)


def theirs(cell: Cell, model: Any, steps: Sequence[Sequence[Example]], clock: Clock) -> tuple[list[float], Any]:
    """By Trainer or SFTTrainer, which are handed micro-batches that are made already, as many in every step."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from benchmarks.train_trainer import with_adapter

    rung, losses = RUNGS[cell.rung], []
    if cell.method == "lora":
        model = with_adapter(model)
    flat = "flash" in cell.attention
    most = max(len(micro_batches(step, cell.length, cell.rows, packed=rung.packed)) for step in steps)
    items = [
        inputs_of(batch, flat=flat)
        for step in steps
        for batch in micro_batches(step, cell.length, cell.rows, packed=rung.packed, count=most)
    ]

    class Timer(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM:
                clock.begin()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in (logs or {}):
                losses.append(float(logs["loss"]))

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            clock.end()

    folder = tempfile.mkdtemp()
    same: dict[str, Any] = {
        "output_dir": folder, "per_device_train_batch_size": 1, "gradient_accumulation_steps": most,
        "max_steps": len(steps), "learning_rate": 1e-5, "lr_scheduler_type": "constant", "bf16": not cell.pure,
        "train_sampling_strategy": "sequential", "remove_unused_columns": False, "logging_steps": 1, "report_to": "none",
        "save_strategy": "no", "disable_tqdm": True, "use_cpu": cell.device == "cpu", "max_grad_norm": 1.0,
        "gradient_checkpointing": rung.recompute, "dataloader_pin_memory": cell.device == "cuda",
    }  # fmt: skip
    if rung.library == "trl":
        from trl import SFTConfig, SFTTrainer

        arguments = SFTConfig(max_length=None, dataset_kwargs={"skip_prepare_dataset": True}, **same)
        trainer: Any = SFTTrainer(
            model, arguments, train_dataset=as_dataset(items), data_collator=first, processing_class=some_tokenizer(),
            callbacks=[Timer()],
        )  # fmt: skip
    else:
        if cell.method == "lora" and rung.recompute:
            model.enable_input_require_grads()
        trainer = Trainer(
            model, TrainingArguments(**same), train_dataset=items, data_collator=first, callbacks=[Timer()]
        )
    trainer.train()
    return losses, work_of(model)


def first(items: list[Any]) -> dict[str, torch.Tensor]:
    """The one micro-batch of a "batch"."""
    return {key: torch.as_tensor(value) for key, value in items[0].items()}


def as_dataset(items: list[dict[str, torch.Tensor]]) -> Any:
    """The micro-batches as the kind of dataset that TRL insists on."""
    from datasets import Dataset

    return Dataset.from_list([{key: value.tolist() for key, value in item.items()} for item in items])


def some_tokenizer() -> Any:
    """A tokenizer that nothing is done with: TRL asks for one."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
