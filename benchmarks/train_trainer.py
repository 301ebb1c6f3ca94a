"""The Trainer's side of ``benchmarks/train.py``: transformers' own, set up as LLaMA-Factory 0.9.5 sets it up.

Rows are padded to the longest of their micro-batch, to a multiple of 8, and have a mask; AdamW is torch's (``adamw_torch``),
gradients are clipped at 1. LLaMA-Factory computes activations again in the backward pass unless told not to, so there are
two sides: ``recompute`` as it does by itself, and without, which is quicker. Its pairs go through the model together, all
chosen and then all rejected, logits and log-softmax whole and in float32, and a frozen copy's forward pass beside them.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from benchmarks.process import Measured
from benchmarks.train_job import given

MULTIPLE = 8
BETA = 0.1


def measure(folder: Path, *, recompute: bool) -> Measured:
    """Train as ``job.json`` says."""
    import peft  # noqa: F401
    import torch
    from transformers import AutoModelForCausalLM, Qwen2ForCausalLM, Trainer, TrainingArguments  # noqa: F401

    job, found = given(folder), Measured()
    rows: list[Any] = job.pairs if job.stage == "dpo" else job.rows
    found.before_model()
    torch.manual_seed(job.seed)
    dtype = torch.bfloat16 if job.bf16 and job.method == "lora" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype)
    if job.method == "lora":
        model = with_adapter(model)
        if recompute:
            model.enable_input_require_grads()
    model.config.use_cache = False
    arguments = TrainingArguments(
        str(folder / "theirs"), per_device_train_batch_size=job.batch, gradient_accumulation_steps=job.accumulation,
        max_steps=job.steps, learning_rate=job.learning_rate, lr_scheduler_type="constant", seed=job.seed, bf16=job.bf16,
        train_sampling_strategy="sequential", remove_unused_columns=False, optim="adamw_torch", max_grad_norm=1.0,
        logging_steps=1, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True,
        gradient_checkpointing=recompute, gradient_checkpointing_kwargs={"use_reentrant": False} if recompute else None,
    )  # fmt: skip
    kind, extra = Trainer, {}
    if job.stage == "dpo":
        kind, extra = pairs_trainer(), {"frozen": copy.deepcopy(model).requires_grad_(False).eval()}
    collate = collate_pairs if job.stage == "dpo" else collate_rows
    trainer = kind(model, arguments, train_dataset=rows, data_collator=collate, callbacks=[make_clock(found)], **extra)
    trainer.train()
    return found


def with_adapter(model: Any) -> Any:
    """LoRA of rank 8 on every linear layer but the head, as ``lora_target: all``; trained in float32."""
    import torch
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets)
    adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return adapted


def collate_rows(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    """Tensors [B, T] padded on the right."""
    import torch

    length = -(-max(len(row["input_ids"]) for row in rows) // MULTIPLE) * MULTIPLE

    def padded(values: list[list[int]], fill: int) -> Any:
        return torch.tensor([value + [fill] * (length - len(value)) for value in values])

    ids = [row["input_ids"] for row in rows]
    mask = padded([[1] * len(one) for one in ids], 0)
    return {
        "input_ids": padded(ids, 0),
        "attention_mask": mask,
        "labels": padded([row["labels"] for row in rows], -100),
    }


def collate_pairs(pairs: list[dict[str, dict[str, list[int]]]]) -> dict[str, Any]:
    """All chosen rows, then all rejected ones."""
    return collate_rows([pair[which] for which in ("chosen", "rejected") for pair in pairs])


def make_clock(found: Measured) -> Any:
    """A callback that notes the end of each step and its loss."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            found.begin()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            found.step_ended()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in (logs or {}):
                found.losses.append(float(logs["loss"]))

    return Clock()


def pairs_trainer() -> Any:
    """A Trainer with the sigmoid loss of DPO (Rafailov et al. 2023, eq. 7): the mean over pairs."""
    import torch
    from torch.nn.functional import logsigmoid
    from transformers import Trainer

    def sums(model: Any, batch: dict[str, Any]) -> Any:
        """The log-probability of each row's answer, [2, pairs]."""
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        logits = model(**inputs, use_cache=False).logits.to(torch.float32)[:, :-1]
        labels = batch["labels"][:, 1:]
        trained = labels != -100
        goals = torch.where(trained, labels, 0)
        each = logits.log_softmax(-1).gather(2, goals[:, :, None])[:, :, 0]
        return (each * trained).sum(-1).reshape(2, -1)

    class Pairs(Trainer):
        def __init__(self, *args: Any, frozen: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.frozen = self.accelerator.prepare_model(frozen, evaluation_mode=True)  # under the same autocast
            self.model_accepts_loss_kwargs = False  # a mean, to be divided by the number of micro-batches

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            policy = sums(model, inputs)
            with torch.no_grad():
                reference = sums(self.frozen, inputs)
            ratio = policy - reference
            return -logsigmoid(BETA * (ratio[0] - ratio[1])).mean()

    return Pairs
