"""One optimizer step of supervised fine-tuning: ours against transformers.Trainer, same rows, same weights, same loss.

    python benchmarks/sft_step.py [--vocab 151936] [--steps 12] [--threads 2]

Prints the median seconds of a step, padded tokens a second, peak memory, and the ratio. Each side runs in a process of
its own, one after the other, three times in turn, so that a busy moment of the machine meets both.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

ROWS = 96
BATCH, ACCUMULATION = 4, 2


def examples(vocab: int) -> list[tuple[list[int], list[int]]]:
    """Rows of 40 to 300 tokens, the first third of each a prompt that is not trained."""
    import random

    rng = random.Random(3)
    found = []
    for _ in range(ROWS):
        ids = [rng.randrange(5, vocab) for _ in range(rng.randrange(40, 300))]
        prompt = len(ids) // 3
        found.append((ids, [-100] * prompt + ids[prompt:]))
    return found


def model(vocab: int):  # type: ignore[no-untyped-def]
    """A two-layer Qwen2 whose weights come from seed 0."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=vocab, num_key_value_heads=1, tie_word_embeddings=True, **shape))


def ours(vocab: int, steps: int) -> tuple[list[float], list[float], int]:
    """Seconds and loss of each step, and the padded tokens of them all."""
    from registry.encode import Example
    from trainkit.backends.single import Single
    from trainkit.config import load_config
    from trainkit.data.collate import collate_sequences
    from trainkit.data.loader import StepPlan
    from trainkit.logprobs import head_is_plain
    from trainkit.optimizers.build import build_optimizer
    from trainkit.stages.sft import loss
    from trainkit.step import optimizer_step

    network = model(vocab).train()
    rows = [Example(array("i", ids), array("i", labels)) for ids, labels in examples(vocab)]
    plan = StepPlan(ROWS, BATCH, ACCUMULATION, 1, steps, 42, True)
    trainable = list(network.named_parameters())
    config = load_config({"model_name_or_path": "x", "learning_rate": 1e-3})
    optimizer = build_optimizer(config.optim, config.method, network, trainable)
    backend, head_only = Single(use_cpu=True, bf16=False), head_is_plain(network)
    seconds, losses, padded = [], [], 0
    for number in range(steps):
        began = time.perf_counter()
        batches = [
            collate_sequences([rows[i] for i in chosen], chosen, 0, strict=False) for chosen in plan.step(number)
        ]
        report = optimizer_step(
            network, batches, [None] * len(batches), loss, optimizer, [p for _, p in trainable], backend,
            lr=1e-3, max_grad_norm=1.0, head_only=head_only,
        )  # fmt: skip
        losses.append(float(report.loss))
        seconds.append(time.perf_counter() - began)
        padded += sum(batch.input_ids.numel() for batch in batches)
    return seconds, losses, padded


def theirs(vocab: int, steps: int) -> tuple[list[float], list[float], int]:
    """The same by transformers.Trainer with a collator that pads to a multiple of 8."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.losses: list[float] = []

        def on_step_begin(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            self.began = time.perf_counter()

        def on_step_end(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            self.seconds.append(time.perf_counter() - self.began)

        def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
            if "loss" in (logs or {}):
                self.losses.append(float(logs["loss"]))

    def collate(rows):  # type: ignore[no-untyped-def]
        longest = -(-max(len(row["input_ids"]) for row in rows) // 8) * 8
        padded = lambda key, value: torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in rows])  # noqa: E731
        mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows])
        return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}

    clock = Clock()
    rows = [{"input_ids": ids, "labels": labels} for ids, labels in examples(vocab)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, gradient_accumulation_steps=ACCUMULATION, max_steps=steps, learning_rate=1e-3,
            lr_scheduler_type="constant", logging_steps=1, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True, bf16=False,
        )  # fmt: skip
        Trainer(model(vocab), arguments, train_dataset=rows, data_collator=collate, callbacks=[clock]).train()  # type: ignore[arg-type]
    return clock.seconds, clock.losses, 0


def main() -> None:
    """Run both sides in turn and print the table as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=["ours", "theirs"])
    options = parser.parse_args()
    if options.side:
        import torch

        torch.set_num_threads(options.threads)
        seconds, losses, padded = {"ours": ours, "theirs": theirs}[options.side](options.vocab, options.steps)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "losses": losses, "padded": padded, "peak_mb": peak}))
        return
    runs: dict[str, list[dict]] = {"ours": [], "theirs": []}
    for _ in range(3):
        for side, found in runs.items():
            command = [
                sys.executable,
                __file__,
                "--side",
                side,
                *(f"--{k}={getattr(options, k)}" for k in ("vocab", "steps", "threads")),
            ]
            out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
            found.append(json.loads(out.stdout.strip().splitlines()[-1]))
    medians = {side: statistics.median(s for run in found for s in run["seconds"][2:]) for side, found in runs.items()}
    apart = max(abs(a - b) for a, b in zip(runs["ours"][0]["losses"], runs["theirs"][0]["losses"], strict=False))
    tokens = runs["ours"][0]["padded"] / options.steps
    report = {
        "vocab": options.vocab,
        "seconds_a_step": medians,
        "padded_tokens_a_second": {side: tokens / median for side, median in medians.items()},
        "peak_mb": {side: max(run["peak_mb"] for run in found) for side, found in runs.items()},
        "largest_difference_of_a_loss": apart,
        "ratio": medians["theirs"] / medians["ours"],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
