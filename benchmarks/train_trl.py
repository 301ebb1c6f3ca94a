"""TRL's side of ``benchmarks/train.py``: SFTTrainer and DPOTrainer on rows that are ids already, without recomputation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from benchmarks.process import Measured
from benchmarks.train_job import given
from benchmarks.train_trainer import BETA, MULTIPLE, make_clock, with_adapter


def measure(folder: Path) -> Measured:
    """Train as ``job.json`` says."""
    import peft  # noqa: F401
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM  # noqa: F401
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    class IdsDPOTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset  # ids already

    job, found = given(folder), Measured()
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    pairs = job.stage == "dpo"
    rows = Dataset.from_list([parted(pair) for pair in job.pairs] if pairs else job.rows)
    found.before_model()
    torch.manual_seed(job.seed)
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
    if job.method == "lora":
        model = with_adapter(model)
    same: dict[str, Any] = {
        "per_device_train_batch_size": job.batch, "gradient_accumulation_steps": job.accumulation, "max_steps": job.steps,
        "learning_rate": job.learning_rate, "lr_scheduler_type": "constant", "seed": job.seed, "bf16": job.bf16,
        "train_sampling_strategy": "sequential", "optim": "adamw_torch", "max_grad_norm": 1.0, "logging_steps": 1,
        "report_to": "none", "save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "gradient_checkpointing": False,
        "pad_to_multiple_of": MULTIPLE,
    }  # fmt: skip
    output, callbacks = str(folder / "trl"), [make_clock(found)]
    trainer: Any
    if pairs:
        dpo = DPOConfig(output, beta=BETA, max_length=None, **same)
        frozen = copy.deepcopy(model).requires_grad_(False).eval()
        trainer = IdsDPOTrainer(model, frozen, dpo, train_dataset=rows, processing_class=tokenizer, callbacks=callbacks)
    else:
        sft = SFTConfig(output, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}, **same)
        trainer = SFTTrainer(model, sft, train_dataset=rows, processing_class=tokenizer, callbacks=callbacks)
    trainer.train()
    return found


def parted(pair: dict[str, dict[str, list[int]]]) -> dict[str, list[int]]:
    """A pair as TRL's collator reads it: the prompt once, and the two answers."""
    prompt = next(n for n, label in enumerate(pair["chosen"]["labels"]) if label != -100)
    found = {f"{which}_ids": pair[which]["input_ids"][prompt:] for which in ("chosen", "rejected")}
    return {"prompt_ids": pair["chosen"]["input_ids"][:prompt], **found}
