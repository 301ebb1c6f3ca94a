"""The forecast of a run's memory against what the run takes: short real runs, each in a process of its own.

    python benchmarks/forecast.py                       every case, on the CPU about ten minutes
    python benchmarks/forecast.py --only large,dpo      those whose name holds one of the words

On the CPU what is measured is resident memory at its peak above the level before the model is loaded; on a GPU the peak of
the allocator. Models are of 20 and 38 million parameters, the first with 151,936 tokens, the second with 4,096.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

REPO = Path(__file__).parents[1]
LARGE = {
    "vocab_size": 151_936, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
SMALL = {
    "vocab_size": 4_096, "hidden_size": 512, "intermediate_size": 1_408, "num_hidden_layers": 12,
    "num_attention_heads": 8, "num_key_value_heads": 4,
}  # fmt: skip
USUAL = {"finetuning_type": "full", "per_device_train_batch_size": 2, "cutoff_len": 512}
# name -> the model, the stage, the keys of the run
CASES: dict[str, tuple[dict[str, int], str, dict[str, Any]]] = {
    "large sft": (LARGE, "sft", {}),
    "large sft 4x256, accumulated": (LARGE, "sft", {"per_device_train_batch_size": 4, "cutoff_len": 256, "gradient_accumulation_steps": 2}),
    "large sft lora": (LARGE, "sft", {"finetuning_type": "lora"}),
    "large dpo": (LARGE, "dpo", {}),
    "large kto": (LARGE, "kto", {}),
    "large pt": (LARGE, "pt", {}),
    "small sft": (SMALL, "sft", {}),
    "small sft accumulated": (SMALL, "sft", {"gradient_accumulation_steps": 2}),
    "small sft lora": (SMALL, "sft", {"finetuning_type": "lora"}),
    "small sft packed": (SMALL, "sft", {"packing": True}),
    "small sft bf16": (SMALL, "sft", {"bf16": True}),
    "small sft recomputed": (SMALL, "sft", {"gradient_checkpointing": True}),
    "small dpo": (SMALL, "dpo", {"per_device_train_batch_size": 1}),
    "small dpo lora": (SMALL, "dpo", {"finetuning_type": "lora"}),
    "small rm": (SMALL, "rm", {"per_device_train_batch_size": 1}),
    "small kto": (SMALL, "kto", {}),
}  # fmt: skip


def main() -> None:
    """Run the cases and print a line for each, then the largest error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="words, with commas: cases whose names hold one of them")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--gpu", action="store_true", help="on the GPU")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure)))
        return
    words = options.only.split(",")
    worst = 0.0
    for name, (shape, stage, keys) in CASES.items():
        if not any(word in name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            config = prepared(
                Path(folder), shape, stage, {**USUAL, **keys, "max_steps": options.steps, "use_cpu": not options.gpu}
            )
            told = json.loads(_run("-m", "trainkit", "plan", str(config), "--json"))["memory"]
            found = json.loads(_run(__file__, "--measure", str(config)).splitlines()[-1])
        error = told["total"] / found["peak"] - 1
        worst = max(worst, abs(error))
        parts = " ".join(
            f"{key} {told[key] / 1e6:.0f}" for key in told if isinstance(told[key], int) and told[key] > 1e5
        )
        print(
            f"{name:30} forecast {told['total'] / 1e6:7,.0f} MB, measured {found['peak'] / 1e6:7,.0f} MB, {error:+.1%}   {parts}",
            flush=True,
        )
    print(f"largest error {worst:.1%}")


def prepared(folder: Path, shape: dict[str, int], stage: str, keys: dict[str, Any]) -> Path:
    """A random model of that shape with a small tokenizer, rows of the stage's kind, and the config of the run."""
    import yaml
    from transformers import LlamaConfig, LlamaForCausalLM

    from trainkit.init import init_model
    from trainkit.init_plan import plan_model

    any_shape: dict[str, Any] = dict(shape)
    rng = random.Random(5)
    words = [f"w{n}" for n in range(200)]

    def text(count: int) -> str:
        return " ".join(rng.choice(words) for _ in range(count))

    rows = [row_of(stage, text) for _ in range(48)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    (folder / "dataset_info.json").write_text(
        json.dumps({"rows": {"file_name": "rows.jsonl", **ENTRIES.get(stage, {})}}), "utf-8"
    )
    tiny = plan_model(
        "qwen2", "tiny", vocab_size=500, hidden_size=32, layers=2, heads=2, max_length=1024, template="chatml"
    )
    init_model(folder / "model", [str(folder / "rows.jsonl")], tiny, seed=1, force=False)
    for old in ("model.safetensors", "config.json", "generation_config.json"):
        (folder / "model" / old).unlink(missing_ok=True)
    LlamaForCausalLM(LlamaConfig(**any_shape, tie_word_embeddings=True, max_position_embeddings=2048)).save_pretrained(
        folder / "model"
    )
    keys = {
        "model_name_or_path": str(folder / "model"), "stage": stage, "do_train": True, "template": "chatml", "dataset": "rows",
        "dataset_dir": str(folder), "output_dir": str(folder / "out"), "save_strategy": "no", "logging_steps": 1, **keys,
    }  # fmt: skip
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(keys), "utf-8")
    return path


ENTRIES: dict[str, dict[str, Any]] = {
    "dpo": {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}},
    "rm": {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}},
    "kto": {"columns": {"prompt": "instruction", "response": "output", "kto_tag": "good"}},
    "pt": {"columns": {"prompt": "instruction"}},
}


def row_of(stage: str, text: Any) -> dict[str, Any]:
    """A row whose answer is about twice as long as its question."""
    if stage in ("dpo", "rm"):
        return {"instruction": text(60), "chosen": text(150), "rejected": text(120)}
    if stage == "kto":
        return {"instruction": text(60), "output": text(150), "good": len(text(1)) % 2 == 0}
    return {"instruction": text(70), "output": text(160)}


def measured(config: Path) -> dict[str, float]:
    """The peak of one real run in this process, in bytes: from the moment before the model is loaded."""
    import peft  # noqa: F401  # code is no memory of the model: it is there before the level is taken
    import torch

    from trainkit.config import load_config
    from trainkit.forecast.build import read_model

    read_model(load_config(config).model.model_name_or_path)
    levels: list[int] = []
    module: Any = importlib.import_module("trainkit.run")
    build = module.build_engine

    def noted(*arguments: Any, **options: Any) -> Any:
        levels.append(_status("VmRSS"))
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
        return build(*arguments, **options)

    module.build_engine = noted
    module.run(load_config(config), quiet=True)
    if torch.cuda.is_available() and not load_config(config).loop.use_cpu:
        return {"peak": float(torch.cuda.max_memory_allocated())}
    return {"peak": float(_status("VmHWM") - levels[0])}


def _status(name: str) -> int:
    """Bytes that this process holds (VmRSS), or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _run(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=REPO, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
