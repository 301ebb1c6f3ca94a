"""Writes the tables of docs/config.md from trainkit/keys.yaml; with --check only tells whether they are up to date."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainkit import config
from trainkit.config import PARTS, RunConfig
from trainkit.keys import key_table

PAGE = Path(__file__).with_name("config.md")
TITLES = {
    "run": "The run",
    "model": "The model",
    "data": "The data",
    "method": "What is trained",
    "preference": "Preference loss (stage dpo)",
    "optim": "Optimizer and schedule",
    "loop": "Length, batches, logs, checkpoints, evaluation",
    "sample": "Answers in chat",
    "export": "Export",
}
WORDS = {
    "str": "text", "int": "whole number", "float": "number", "int|float": "number", "bool": "true or false",
    "bool|str": "true, false or path", "list[str]": "names", "dict": "mapping",
}  # fmt: skip
# Of these keys only some values are built; the page lists those.
BUILT = {
    "stage": config.STAGES_BUILT,
    "finetuning_type": config.METHODS_BUILT,
    "lr_scheduler_type": config.SCHEDULES_BUILT,
    "optim": config.OPTIMIZERS_BUILT,
    "pref_loss": config.PREF_LOSSES_BUILT,
}
# One sentence a group, and a pattern for the reasons (`why` in the table) of its keys; the first that fits takes a key.
REFUSED = (
    ("Keys of LLaMA-Factory's rewrite (v1) have other names here, which the message gives.", r"v1;|^write (per_device|gradient)"),
    ("Megatron, KTransformers and HyperParallel are other engines; none of them runs here.", "Megatron|KTransformers|HyperParallel|^the model is always saved|^merge with trainkit|^the loss is always|multi-token"),
    ("One process trains on one device, so what spreads a model over several is refused until those backends are built.", "FSDP|deepspeed backend|fairscale|accelerate|^one device trains"),
    ("Other kernels, compilers and inference engines are not built in.", "unsloth|Liger|^compiling|^only transformers generates|^the profiler"),
    ("Weights are trained in fp32, computed in fp32 or bf16, and never quantised.", "quantised|fp8|float16|^precision|switch for the logits|^trained weights stay|uses the precision|deterministic kernels"),
    ("Other objectives than plain cross-entropy and sigmoid DPO are not built.", "PPO|KTO's|^the margin|^length-des|SFT term|BCO term|cross-entropy|label smoothing|^the reference|balance loss"),
    ("Other ways to choose what is trained than all weights or LoRA are not built.", "^freeze|LLaMA Pro|OFT|PiSSA|LoRA\\+|opposite switch|^shifted|^mixture|NEFTune|vision tower|projector|^the language model"),
    ("AdamW is the optimizer there is; its settings are keys of their own.", "GaLore|APOLLO|BAdam|Adam-mini|Muon|^only adam|^the optimizer is chosen"),
    ("The model and its vocabulary are taken as they are, and only text is read.", "^not read here|vocabulary|special tokens are always single|^adding tokens|^not built; set the scaling|^training starts|^the number is read|carried states|only text"),
    ("Rows are joined, cut and shuffled in one way, and every row is trained on.", "concat|^interleaving|^streaming|^packing of|tool syntax|^encoded data|^padding|^the split|^cutting|share one budget|^the batch is never|row where it stopped|^rows are shuffled|^grouping|^every row"),
    ("Evaluation gives the held-out loss and nothing else.", "^evaluation|^early stopping|^prediction|^the last weights|^write eval_strategy|benchmarks|^beam search|left out of answers"),
    ("Nothing is uploaded or reported elsewhere, and no key or token stands in a config.", "tracker|SwanLab|uploaded|environment only|^checkpoints follow|never as pickles"),
    ("Values that follow from others cannot be set.", "^not a setting"),
)  # fmt: skip


def main() -> int:
    """Write the page, or with ``--check`` compare it; 1 where it is out of date."""
    old = PAGE.read_text(encoding="utf-8")
    new = old
    for name, lines in (("used", used()), ("renamed", renamed()), ("refused", refused())):
        body = "\n".join(lines)
        new, count = re.subn(
            rf"(<!-- {name}: begin[^>]*-->\n).*?(<!-- {name}: end -->)",
            lambda m, b=body: f"{m[1]}\n{b}\n\n{m[2]}",
            new,
            flags=re.S,
        )
        if count != 1:
            print(f"{PAGE}: the marks of the part {name!r} are not there once", file=sys.stderr)
            return 1
    if "--check" in sys.argv:
        if new != old:
            print(f"{PAGE} is out of date; run:  python docs/{Path(__file__).name}", file=sys.stderr)
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


def used() -> Iterator[str]:
    """A table for each part of the config, its keys in the order of that part."""
    own = [name for name in RunConfig.__dataclass_fields__ if name not in (*PARTS, "source", "notes")]
    for part, title in TITLES.items():
        yield f"### {title}\n\n| key | type | default | what it does |\n|---|---|---|---|"
        for name in own if part == "run" else PARTS[part].__dataclass_fields__:
            spec = key_table()[name]
            yield f"| `{name}` | {_type(name, spec)} | {_shown(spec['default'])} | {_cell(spec['help'])} |"
        yield ""


def _type(name: str, spec: dict[str, Any]) -> str:
    if "choices" in spec:
        return " ".join(f"`{choice}`" for choice in BUILT.get(name, spec["choices"]))
    low, high = spec.get("min"), spec.get("max")
    within = f", {low} to {high}" if high is not None else f", from {low}" if low is not None else ""
    return WORDS[spec["type"]] + within


def _shown(default: Any) -> str:
    if default is None:
        return "not set"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def renamed() -> Iterator[str]:
    """Older names and what they are called now, of the keys that are read under their newer name."""
    table = key_table()
    yield (
        ", ".join(
            f"`{old}` → `{spec['to']}`"
            for old, spec in table.items()
            if spec["status"] == "renamed" and table[spec["to"]]["status"] == "used"
        )
        + "."
    )


def refused() -> Iterator[str]:
    """The refused keys by group. Raises ``SystemExit`` for a reason that belongs to no group."""
    groups: dict[str, list[str]] = {sentence: [] for sentence, _ in REFUSED}
    for name, spec in key_table().items():
        if spec["status"] == "refused":
            found = next((sentence for sentence, reasons in REFUSED if re.search(reasons, spec["why"])), None)
            if found is None:
                raise SystemExit(f'{__file__}: no group for "{name}": {spec["why"]}')
            groups[found].append(name)
    for sentence, names in groups.items():
        yield f"- {sentence} " + ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.exit(main())
