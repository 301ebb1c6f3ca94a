"""README.md of a trained model: what was trained, on which data, with what settings and versions, and what came out."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from registry.atomic import atomic_file
from registry.digest import sha256_of
from registry.manifest import manifest_path, tool_version
from registry.remote import is_remote
from registry.secrets import masked
from trainkit.config import RunConfig
from trainkit.data.account import Examples

PACKAGES = ("torch", "transformers", "peft", "tokenizers")
ADAPTERS = {"lora": "LoRA adapter", "oft": "OFT adapter"}
METHODS = {"full": "full fine-tuning", "freeze": "fine-tuning of some layers", **ADAPTERS}
STAGES = {"pt": "pre-training", "sft": "supervised fine-tuning", "rm": "reward modelling", "dpo": "preference optimisation", "kto": "KTO", "ppo": "PPO"}  # fmt: skip
HUB_ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that rows were read from; ``sha256`` None where it could not be had."""

    dataset: str
    file: str
    rows: int
    sha256: str | None


def sources_of(examples: Examples) -> list[Source]:
    """Every file that a run read rows from, with the SHA-256 of its bytes: its manifest's, or taken now."""
    names = {file: name for name, rows in examples.sets.items() for file in rows.files}
    counts = examples.ledger.by_file
    return [Source(names.get(file, ""), file, rows, _hash_of(file)) for file, rows in counts.items()]


def _hash_of(file: str) -> str | None:
    """A remote file is not read again for its hash, and one that is gone has none."""
    path = Path(file)
    if is_remote(file) or not path.is_file():
        return None
    try:
        return _hash_in_manifest(path) or sha256_of(path)
    except OSError:
        return None


def _hash_in_manifest(path: Path) -> str | None:
    """What the manifest beside a file says, where it was written after the file and speaks of as many bytes."""
    beside = manifest_path(path)
    try:
        held, of = beside.stat(), path.stat()
        if held.st_mtime_ns < of.st_mtime_ns:
            return None
        outputs = json.loads(beside.read_text("utf-8"))["outputs"]
        found = [o for o in outputs if Path(o["file"]).name == path.name and o["bytes"] == of.st_size]
        return str(found[0]["sha256"]) if len(found) == 1 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_card(
    folder: Path,
    config: RunConfig,
    numbers: Mapping[str, Any],
    sources: Sequence[Source],
    *,
    rows_in: int,
    num_train: int,
    num_eval: int,
) -> None:
    """Write ``README.md`` into ``folder``. Its front matter is what the hub understands: names that no hub can have, such
    as folders, stand in the text only; secrets nowhere."""
    kind, base = config.method.finetuning_type, config.model.model_name_or_path
    parts = [
        f"---\n{yaml.safe_dump(front_matter(config), allow_unicode=True, sort_keys=False)}---",
        f"# {folder.resolve().name}",
        f"{STAGES.get(config.stage, config.stage).capitalize()} ({METHODS.get(kind, kind)}) of `{base}`"
        f" on {', '.join(config.data.dataset or ()) or 'no data'}, made with tunekit {tool_version()}.",
        "## Data",
        table(
            ("dataset", "file", "rows", "sha256"),
            [(s.dataset, f"`{s.file}`", s.rows, f"`{s.sha256}`" if s.sha256 else "not known") for s in sources],
        ),
        f"{rows_in} rows read, {num_train} examples trained on" + (f", {num_eval} held out." if num_eval else "."),
        "## Results",
        table(("number", "value"), [(k, _number(v)) for k, v in numbers.items() if isinstance(v, int | float | str)]),
        "By step: `trainer_log.jsonl`, and `training_*.png` where curves were asked for.",
        "## Settings",
        table(("key", "value"), settings_of(config)),
        "All others are as by default; `training_args.yaml` lists every one.",
        "## Versions",
        table(("package", "version"), versions()),
        "## Use",
        _use(config),
    ]
    with atomic_file(folder / "README.md") as handle:
        handle.write(("\n\n".join(parts) + "\n").encode())


def front_matter(config: RunConfig) -> dict[str, Any]:
    """The card's data for the hub (https://huggingface.co/docs/hub/model-cards)."""
    base = config.model.model_name_or_path
    front: dict[str, Any] = {}
    if HUB_ID.fullmatch(base) and not Path(base).exists():
        front["base_model"] = base
    front["library_name"] = "peft" if config.method.finetuning_type in ADAPTERS else "transformers"
    if config.stage != "rm":
        front["pipeline_tag"] = "text-generation"
    front["tags"] = ["tunekit", config.stage, config.method.finetuning_type]
    names = config.data.dataset or ()  # without an owner it is an entry of the user's own dataset_info.json
    datasets = [name for name in names if "/" in name and HUB_ID.fullmatch(name) and not Path(name).exists()]
    return front | ({"datasets": datasets} if datasets else {})


def settings_of(config: RunConfig) -> list[tuple[str, str]]:
    """The keys that somebody set, with what held in the end."""
    held = masked(config.flat())
    return [(key, f"`{held[key]}`") for key in sorted(held) if config.origins.get(key, "default") != "default"]


def versions() -> list[tuple[str, str]]:
    """What the model was made with."""
    found = [("tunekit", tool_version()), ("python", platform.python_version())]
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown, bars and line ends in its cells made harmless."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in line) + " |" for line in lines
    )


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _use(config: RunConfig) -> str:
    """How the folder is loaded."""
    kind = "AutoPeftModelForCausalLM" if config.method.finetuning_type in ADAPTERS else "AutoModelForCausalLM"
    package = "peft" if kind.startswith("AutoPeft") else "transformers"
    names = f"from {package} import {kind}\nfrom transformers import AutoTokenizer" if package == "peft" else f"from transformers import {kind}, AutoTokenizer"  # fmt: skip
    code = f"```python\n{names}\n\nmodel = {kind}.from_pretrained(FOLDER)\ntokenizer = AutoTokenizer.from_pretrained(FOLDER)\n```"
    if config.stage == "rm":
        code += "\n\nThe score of an answer is the value head's (`value_head.safetensors`) at its last token."
    return code
