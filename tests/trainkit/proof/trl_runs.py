"""TRL's trainers on token ids that are given to them: six steps on the CPU in fp32, and what each step's loss was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from registry.encode import IGNORE, Example, FeedbackExample, PreferenceExample

STEPS = 6
Course = list[tuple[float, float]]  # loss and gradient norm of each step


def sft(model: Any, examples: Sequence[Example], tokenizer: Any, folder: Path, **settings: Any) -> Course:
    """``SFTTrainer`` on ids and labels; with ``packing`` it packs them itself."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = Dataset.from_list([{"input_ids": list(e.ids), "labels": list(e.labels)} for e in examples])
    config = SFTConfig(**common(folder, **settings))
    return course(SFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer))


def dpo(model: Any, examples: Sequence[PreferenceExample], tokenizer: Any, folder: Path, **settings: Any) -> Course:
    """``DPOTrainer``; the frozen reference is loaded anew from the model's folder."""
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(**common(folder, **settings))
    trainer = DPOTrainer(model, args=config, train_dataset=placeholder(), processing_class=tokenizer)
    return course(trainer, [prompt_and_answers(e) for e in examples])


def kto(model: Any, examples: Sequence[FeedbackExample], tokenizer: Any, folder: Path, **settings: Any) -> Course:
    """``KTOTrainer``, the KL rows given too: which answer stands in for another is the data's part."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    text = Dataset.from_list([{"prompt": "a", "completion": "b", "label": good} for good in (True, False)])
    trainer = KTOTrainer(
        model, args=KTOConfig(**common(folder, **settings)), train_dataset=text, processing_class=tokenizer
    )
    rows = []
    for example in examples:
        prompt, answer = parts(example.own)
        other_prompt, other = parts(example.kl)
        assert other_prompt == prompt
        rows.append(
            {"prompt_ids": prompt, "completion_ids": answer, "KL_completion_ids": other, "label": example.desirable}
        )
    return course(trainer, rows)


def reward(model: Any, examples: Sequence[PreferenceExample], tokenizer: Any, folder: Path, **settings: Any) -> Course:
    """``RewardTrainer`` around a ``…ForSequenceClassification``."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    rows = [{"chosen_ids": list(e.chosen.ids), "rejected_ids": list(e.rejected.ids)} for e in examples]
    trainer = RewardTrainer(
        model, args=RewardConfig(**common(folder, **settings)), train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    return course(trainer)


def orpo(model: Any, examples: Sequence[PreferenceExample], tokenizer: Any, folder: Path, **settings: Any) -> Course:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    config = ORPOConfig(**common(folder, **settings))
    trainer = ORPOTrainer(model, args=config, train_dataset=placeholder(), processing_class=tokenizer)
    return course(trainer, [columns(e) for e in examples])


def cpo(model: Any, examples: Sequence[PreferenceExample], tokenizer: Any, folder: Path, **settings: Any) -> Course:
    """``CPOTrainer``, which has simpo as one of its losses."""
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    config = CPOConfig(**common(folder, **settings))
    trainer = CPOTrainer(model, args=config, train_dataset=placeholder(), processing_class=tokenizer)
    return course(trainer, [columns(e) for e in examples])


def common(folder: Path, **settings: Any) -> dict[str, Any]:
    """The settings that every trainer has; ``settings`` are laid over them."""
    return {
        "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 1e-3,
        "lr_scheduler_type": "constant", "optim": "adamw_torch", "logging_steps": 1, "report_to": "none",
        "save_strategy": "no", "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True,
        "train_sampling_strategy": "sequential", "dataloader_pin_memory": False, "dataloader_drop_last": False,
        "max_length": 512, **settings,
    }  # fmt: skip


def course(trainer: Any, rows: list[dict[str, Any]] | None = None) -> Course:
    """Train; ``rows`` take the place of what the trainer made of its placeholder text."""
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    if rows is not None:
        trainer.train_dataset = Dataset.from_list(rows)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return [(line["loss"], line["grad_norm"]) for line in trainer.state.log_history if "loss" in line]


def stop_after(steps: int) -> Any:
    """A callback that ends a longer run, so that its schedule stays that of the longer one."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            control.should_training_stop = state.global_step >= steps

    return Stop()


def placeholder() -> Any:
    """A row of text for a trainer that reads no ids before it has read text."""
    from datasets import Dataset

    return Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])


def parts(example: Example) -> tuple[list[int], list[int]]:
    """(prompt, answer): the ids before the first trained one, and all from there on, each of them trained."""
    first = next(at for at, label in enumerate(example.labels) if label != IGNORE)
    ids = list(example.ids)
    assert list(example.labels)[first:] == ids[first:]
    return ids[:first], ids[first:]


def prompt_and_answers(example: PreferenceExample) -> dict[str, list[int]]:
    prompt, chosen = parts(example.chosen)
    again, rejected = parts(example.rejected)
    assert prompt == again
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def columns(example: PreferenceExample) -> dict[str, list[int]]:
    """A pair as ORPO and CPO lay it into columns."""
    found = {}
    for name, one in (("chosen", example.chosen), ("rejected", example.rejected)):
        found[f"{name}_input_ids"] = list(one.ids)
        found[f"{name}_attention_mask"] = [1] * len(one.ids)
        found[f"{name}_labels"] = list(one.labels)
    return found
