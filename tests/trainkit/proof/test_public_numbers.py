"""Numbers that TRL publishes of a real model on real data: run on a day with a GPU, rehearsed on a tiny model until then.

The numbers are those of TRL's own regression test (tests/invariant/references/sft.json and dpo.json, as of TRL 1.16, taken
on an H100): Qwen2.5-0.5B-Instruct in fp32 with eager attention, 50 steps of 8 rows drawn with seed 42, at most 512 tokens.
"""

from __future__ import annotations

import copy
import importlib.util
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.encode import IGNORE, Example, PreferenceExample
from tests.trainkit.conftest import PAIRS, QUESTIONS
from tests.trainkit.proof import trl_runs
from tests.trainkit.proof.trl_runs import Course
from trainkit.backends.single import Single
from trainkit.config import load_config
from trainkit.data.collate import Batch, collate_pairs, collate_sequences
from trainkit.head import find_head
from trainkit.health import Health
from trainkit.objective import Objective
from trainkit.stages import STAGES, Settings
from trainkit.step import optimizer_step

MODEL, REVISION = "Qwen/Qwen2.5-0.5B-Instruct", "7ae557604adf67be50417f59c2c2f167def9a775"
SEED, NUM_STEPS, BATCH_SIZE, MAX_LENGTH = 42, 50, 8, 512
CLOSE = 5e-3  # TRL's own tolerance between machines


@dataclass(frozen=True)
class Golden:
    """A published run: its rows, its rate at the first step (falling to 0 at the fiftieth), and its first three steps."""

    stage: str
    dataset: str
    learning_rate: float
    losses: tuple[float, ...]
    grad_norms: tuple[float, ...] = ()


SFT = Golden("sft", "trl-lib/Capybara", 2e-5, (2.38422, 1.41206, 1.65436), (28.17, 16.12, 9.52))
DPO = Golden("dpo", "trl-lib/ultrafeedback_binarized", 1e-6, (0.693147, 0.687875, 0.659355))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and the hub for Qwen2.5-0.5B and its data")
@pytest.mark.parametrize("golden", [SFT, DPO], ids=lambda golden: golden.stage)
def test_the_first_steps_are_those_that_trl_publishes(golden: Golden) -> None:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(MODEL, revision=REVISION)
        model = AutoModelForCausalLM.from_pretrained(
            MODEL, revision=REVISION, dtype=torch.float32, attn_implementation="eager"
        )
        rows = load_dataset(golden.dataset, split="train")
    except OSError as error:
        pytest.skip(f"the hub cannot be reached: {error}")
    found = course(golden, model, tokenizer, rows, steps=len(golden.losses))
    assert [loss for loss, _ in found] == pytest.approx(golden.losses, abs=CLOSE)
    if golden.grad_norms:
        assert [norm for _, norm in found] == pytest.approx(golden.grad_norms, rel=0.02)


def course(
    golden: Golden, model: Any, tokenizer: Any, rows: Any, *, steps: int, batch_size: int = BATCH_SIZE,
    max_length: int = MAX_LENGTH, learning_rate: float | None = None,
) -> Course:  # fmt: skip
    """Our steps on the rows that TRL would draw, with the ids that it would make of them."""
    examples, collate = MAKES[golden.stage](rows, tokenizer, max_length)
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(SEED)).tolist()
    config = load_config({"model_name_or_path": "m", "stage": golden.stage})
    backend = Single(use_cpu=not torch.cuda.is_available(), bf16=False)
    kept: dict[str, torch.Tensor] = {}
    way = STAGES[golden.stage].way(Settings(config.preference, config.loss, backend.device, backend.sum, kept))
    frozen = Objective(copy.deepcopy(model), way, None).to(backend.device).eval()
    frozen.head = find_head(frozen.model)
    objective = Objective(model, way, find_head(model))
    objective.kept, objective.autocast = kept, backend.autocast
    backend.prepare(objective, lambda named: torch.optim.AdamW([p for _, p in named], lr=1.0, weight_decay=0.0))
    health, found = Health(backend.device, kept), []
    for step in range(steps):
        drawn = [examples[number] for number in order[step * batch_size : (step + 1) * batch_size]]
        batch = collate(drawn, range(len(drawn)), tokenizer.pad_token_id, strict=False).to(backend.device)
        with torch.no_grad():
            reference = frozen(batch, measure=True) if golden.stage == "dpo" else None
        lr = (learning_rate or golden.learning_rate) * (1 - step / NUM_STEPS)
        report = optimizer_step(backend, [batch], [reference], lr=lr, max_grad_norm=1.0, health=health)
        found.append((float(report.loss), float(report.grad_norm)))
    return found


def texts(rows: Any, tokenizer: Any, max_length: int) -> tuple[list[Example], Callable[..., Batch]]:
    """Whole conversations, every token of them trained, cut at the end."""
    examples = []
    for row in rows:
        ids = array("i", ids_of(tokenizer, row["messages"])[:max_length])
        examples.append(Example(ids, ids))
    return examples, collate_sequences


def pairs(rows: Any, tokenizer: Any, max_length: int) -> tuple[list[PreferenceExample], Callable[..., Batch]]:
    """Two answers to what they have in common, cut at the end; where nothing would be left of them there is no pair."""
    examples = []
    for row in rows:
        asked = [one for one, other in zip(row["chosen"], row["rejected"], strict=False) if one == other]
        prompt = ids_of(tokenizer, asked, add_generation_prompt=True)
        if len(prompt) >= max_length:
            continue
        sides = []
        for answer in (row["chosen"], row["rejected"]):
            ids = ids_of(tokenizer, answer)
            assert ids[: len(prompt)] == prompt
            labels = [IGNORE] * len(prompt) + ids[len(prompt) :]
            sides.append(Example(array("i", ids[:max_length]), array("i", labels[:max_length])))
        examples.append(PreferenceExample(*sides))
    return examples, collate_pairs


MAKES: dict[str, Callable[[Any, Any, int], tuple[Sequence[Any], Callable[..., Batch]]]] = {"sft": texts, "dpo": pairs}


def ids_of(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, return_dict=False, **options))


# -------------------------------------------------------------------------------------- the rehearsal
def said(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


ROWS: dict[str, list[dict[str, Any]]] = {
    "sft": [{"messages": said(row["instruction"], row["output"])} for row in QUESTIONS],
    "dpo": [
        {name: said(row["instruction"] * (9 if number == 3 else 1), row[name]) for name in ("chosen", "rejected")}
        for number, row in enumerate(PAIRS)
    ],
}


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
@pytest.mark.parametrize("golden", [SFT, DPO], ids=lambda golden: golden.stage)
def test_rows_drawn_cut_and_trained_so_are_trls(golden: Golden, model_folder: Path, tmp_path: Path) -> None:
    """TRL itself on a tiny model, with its own drawing, tokenising, cutting and dropping, at a rate that shows."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    kind, kind_config = {"sft": (SFTTrainer, SFTConfig), "dpo": (DPOTrainer, DPOConfig)}[golden.stage]
    config = kind_config(
        **trl_runs.common(
            tmp_path, max_steps=NUM_STEPS, lr_scheduler_type="linear", seed=SEED, data_seed=SEED, max_length=48,
            train_sampling_strategy="random", per_device_train_batch_size=3,
        )
    )  # fmt: skip
    rows = Dataset.from_list(ROWS[golden.stage])
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    trainer = kind(copy.deepcopy(model), args=config, train_dataset=rows, processing_class=tokenizer)
    trainer.add_callback(trl_runs.stop_after(3))
    theirs = trl_runs.course(trainer)
    ours = course(golden, model, tokenizer, rows, steps=3, batch_size=3, max_length=48, learning_rate=1e-3)
    assert [loss for loss, _ in ours] == pytest.approx([loss for loss, _ in theirs], rel=1e-5)
    assert [norm for _, norm in ours] == pytest.approx([norm for _, norm in theirs], rel=1e-4)
    assert len(MAKES[golden.stage](rows, tokenizer, 48)[0]) == (24 if golden.stage == "sft" else 11)
