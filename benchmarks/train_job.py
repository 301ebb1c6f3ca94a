"""What ``benchmarks/train.py`` trains: a model, rows and a config for trainkit, and the very same rows as ids for the others."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.models import SHAPES, config_of
from benchmarks.rows import Writer, alpaca

# So small that what single precision rounds otherwise is not blown up from step to step, where dpo learns fast.
RATE = 1e-5
VOCABULARY = 4096  # tokens of the tokenizer that is made where none is given
WARM = 2  # steps at the start of a run that are not counted


@dataclass(frozen=True)
class Job:
    """One row of the table. ``floor`` is the least that speed is to be against the quicker Trainer (None: none is
    set), ``memory`` the most that the peak is to be of that one's."""

    stage: str
    method: str
    shape: str
    batch: int
    accumulation: int
    cutoff: int
    floor: float | None
    memory: float

    @property
    def title(self) -> str:
        """As the table calls it."""
        vocabulary = SHAPES[self.shape]["vocab_size"]
        return f"{self.stage} {self.method}, {vocabulary:,}, {self.batch} × {self.accumulation} up to {self.cutoff}"


JOBS = {
    "sft-large": Job("sft", "full", "large", 4, 2, 1024, 2.5, 1.0),
    "sft-small": Job("sft", "full", "small", 4, 2, 1024, 1.3, 1.0),
    "lora-large": Job("sft", "lora", "large", 4, 2, 1024, 1.5, 1.0),
    "lora-small": Job("sft", "lora", "small", 4, 2, 1024, 1.5, 1.0),
    "dpo-large": Job("dpo", "full", "large", 2, 1, 512, 2.0, 0.5),
    "pt-large": Job("pt", "full", "large", 2, 2, 512, None, 1.0),
    "pt-small": Job("pt", "full", "small", 2, 2, 512, None, 1.0),
}
REAL = {"sft": "alpaca_en_demo", "dpo": "dpo_en_demo", "pt": "c4_demo"}  # of LLaMA-Factory's data folder


def prepare(folder: Path, job: Job, *, steps: int, bf16: bool, data: Path | None, tokenizer: Path | None) -> int:
    """Fill ``folder``: ``model``, ``run.yaml`` for trainkit, ``job.json`` with the rows of every step for the others.

    ``data`` is a folder with ``dataset_info.json`` and LLaMA-Factory's demonstration sets (None: rows of invented words);
    ``tokenizer`` a folder with one (None: one of 4,096 tokens is trained on the rows). How many tokens of text the steps
    after the first ``WARM`` hold.
    """
    rows = rows_of(job, data, count=job.batch * job.accumulation * steps * (12 if job.stage == "pt" else 1))
    info = {"rows": {"file_name": "rows.jsonl", **COLUMNS[job.stage]}}
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "dataset_info.json").write_text(json.dumps(info), "utf-8")
    make_model(folder, job.shape, tokenizer)
    keys = {
        "model_name_or_path": str(folder / "model"), "stage": job.stage, "do_train": True, "finetuning_type": job.method,
        "template": "chatml", "dataset": "rows", "dataset_dir": str(folder), "output_dir": str(folder / "out"),
        "cache_path": str(folder / "cache"), "cutoff_len": job.cutoff, "per_device_train_batch_size": job.batch,
        "gradient_accumulation_steps": job.accumulation, "max_steps": steps, "learning_rate": RATE,
        "lr_scheduler_type": "constant", "logging_steps": 1, "save_strategy": "no", "disable_shuffling": True,
        "bf16": bf16, "use_cpu": True, "plot_loss": False,
    }  # fmt: skip
    (folder / "run.yaml").write_text(json.dumps(keys, indent=1), "utf-8")  # JSON is YAML
    micro = list(micro_batches(folder / "run.yaml"))
    told = {
        "stage": job.stage,
        "method": job.method,
        "bf16": bf16,
        "batch": job.batch,
        "accumulation": job.accumulation,
    }
    told |= {"steps": steps, "micro": micro, "seed": 42, "learning_rate": RATE}
    (folder / "job.json").write_text(json.dumps(told), "utf-8")
    return sum(len(row["input_ids"]) for one in micro[WARM * job.accumulation :] for row in one)


def rows_of(job: Job, data: Path | None, *, count: int) -> list[dict[str, Any]]:
    """Rows with the columns that ``COLUMNS`` names, in an order that does not change."""
    if data is None:
        return list(made_rows(job.stage, count))
    info = json.loads((data / "dataset_info.json").read_text("utf-8"))[REAL[job.stage]]
    path = data / info["file_name"]
    read = (
        [json.loads(line) for line in path.open(encoding="utf-8")]
        if path.suffix == ".jsonl"
        else json.loads(path.read_text("utf-8"))
    )
    if job.stage == "dpo":
        read = [
            {"instruction": r["conversations"][-1]["value"], "chosen": r["chosen"]["value"], "rejected": r["rejected"]["value"]}
            for r in read
        ]  # fmt: skip
    random.Random(7).shuffle(read)
    return [read[n % len(read)] for n in range(count)]


def made_rows(stage: str, count: int) -> Iterator[dict[str, Any]]:
    """Rows of invented words, with answers of about the lengths that real ones have."""
    if stage == "sft":
        for row in alpaca(count):
            yield {key: row[key] for key in ("instruction", "input", "output")}
        return
    writer = Writer(9)
    for _ in range(count):
        words = [min(int(writer.rng.lognormvariate(4.3, 0.6)) + 5, 400) for _ in range(2)]
        if stage == "pt":
            yield {"text": writer.text(words[0])}
        else:
            yield {"instruction": writer.text(15), "chosen": writer.text(words[0]), "rejected": writer.text(words[1])}


COLUMNS: dict[str, dict[str, Any]] = {
    "sft": {},
    "pt": {"columns": {"prompt": "text"}},
    "dpo": {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}},
}


def make_model(folder: Path, shape: str, tokenizer: Path | None) -> None:
    """``folder/model``: random weights of that shape, and the tokenizer."""
    import torch
    from transformers import AutoTokenizer, Qwen2ForCausalLM

    from trainkit.init import init_model
    from trainkit.init_plan import plan_model

    model = folder / "model"
    if tokenizer is None:
        plan = plan_model(
            "qwen2",
            "tiny",
            vocab_size=min(VOCABULARY, SHAPES[shape]["vocab_size"]),
            hidden_size=32,
            layers=2,
            heads=2,
            max_length=1024,
            template="chatml",
        )
        init_model(model, [str(folder / "rows.jsonl")], plan, seed=1, force=False)
        for old in ("model.safetensors", "config.json", "generation_config.json"):
            (model / old).unlink(missing_ok=True)
    else:
        AutoTokenizer.from_pretrained(tokenizer).save_pretrained(model)
    read = AutoTokenizer.from_pretrained(model)
    torch.manual_seed(0)
    config = config_of(shape, eos_token_id=read.eos_token_id, pad_token_id=read.pad_token_id, bos_token_id=None)
    Qwen2ForCausalLM(config).save_pretrained(model)


def micro_batches(config_file: Path) -> Iterator[list[dict[str, Any]]]:
    """The micro-batches of the run in order: rows with ``input_ids`` and ``labels``; of pairs all chosen, then all rejected.

    A first label is never predicted, so it is taken away: transformers would count it in the divisor.
    """
    from trainkit.config import load_config
    from trainkit.data.feed import load_data
    from trainkit.preflight import check_places

    config = load_config(config_file)
    data = load_data(config, check_places(config))
    for number in range(data.plan.total_steps):
        for micro in data.plan.step(number):
            batch = data.batch_of(micro)
            assert batch.attention_mask is not None
            yield [
                {"input_ids": ids[:n].tolist(), "labels": [-100, *labels[1:n].tolist()]}
                for ids, labels, n in zip(
                    batch.input_ids, batch.labels, batch.attention_mask.sum(1).tolist(), strict=True
                )
            ]


@dataclass(frozen=True)
class Given:
    """``job.json``, as the other sides read it."""

    folder: Path
    stage: str
    method: str
    bf16: bool
    batch: int
    accumulation: int
    steps: int
    seed: int
    learning_rate: float
    micro: list[list[dict[str, list[int]]]]

    @property
    def model(self) -> str:
        return str(self.folder / "model")

    @property
    def rows(self) -> list[dict[str, list[int]]]:
        """All rows of single sequences in order."""
        return [row for micro in self.micro for row in micro]

    @property
    def pairs(self) -> list[dict[str, dict[str, list[int]]]]:
        """All pairs in order."""
        halves = ((micro[: len(micro) // 2], micro[len(micro) // 2 :]) for micro in self.micro)
        return [{"chosen": c, "rejected": r} for good, bad in halves for c, r in zip(good, bad, strict=True)]


def given(folder: Path) -> Given:
    """What ``prepare`` left in ``folder``."""
    return Given(folder=folder, **json.loads((folder / "job.json").read_text("utf-8")))
