"""What a trainkit step reads and makes, found from its arguments and its config without loading trainkit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datakit.pipeline.things import Thing, entry_and_data, thing

DATA_VERBS = ("run", "encode")  # CONFIG.yaml [key=value ...], which names datasets
VERBS = ("init", *DATA_VERBS, "export", "chat")
PATH_KEYS = (
    "model_name_or_path",
    "adapter_name_or_path",
    "ref_model",
    "ref_model_adapters",
    "reward_model",
    "resume_from_checkpoint",
)
PATH_OPTIONS = ("--adapter", "--model")
OUTPUT_OPTIONS = ("-o", "--out", "--output")
FLAGS = ("--fresh", "--force", "--greedy", "--json", "--quiet", "-q", "--debug")
# How a verb is told to replace what it made before: said only where the pipeline itself had it made.
AGAIN = {"run": "--fresh", "init": "--force"}
OUTPUT_KEY = {"run": "output_dir", "export": "export_dir"}
DATA_DIR = "data"
RUN_FILE = "run.json"  # what a run keeps in its output folder: {"status": "running" or "finished", …}


@dataclass(frozen=True, slots=True)
class Arguments:
    """Command-line arguments sorted: words, ``key=value`` overrides, and the values after each option."""

    words: tuple[str, ...]
    overrides: dict[str, str]
    options: dict[str, tuple[str, ...]]


def sort_arguments(args: Sequence[str]) -> Arguments:
    """Sort ``args``; an option takes the one word after it, a flag none."""
    words: list[str] = []
    overrides: dict[str, str] = {}
    options: dict[str, tuple[str, ...]] = {}
    taking: str | None = None
    for arg in args:
        name, equals, value = arg.partition("=")
        if arg.startswith("-") and len(arg) > 1:
            options.setdefault(name, ())
            taking = None if equals or name in FLAGS else name
            if equals:
                options[name] = (*options[name], value)
        elif taking is not None:
            options[taking] = (*options[taking], arg)
            taking = None
        elif equals and name.isidentifier():
            overrides[name] = value
        else:
            words.append(arg)
    return Arguments(tuple(words), overrides, options)


def inputs_of(verb: str, args: Sequence[str]) -> list[Thing]:
    """What a trainkit step reads, as far as its arguments tell. A model named on a hub is among them, never found here."""
    given = sort_arguments(args)
    if verb == "init":
        return [thing(path, "data") for path in given.options.get("--data", ())]
    settings = _settings(given)
    found = [thing(word) for word in given.words[:1]]
    found += [thing(path) for key in PATH_KEYS for path in _listed(settings.get(key))]
    found += [thing(path) for name in PATH_OPTIONS for path in given.options.get(name, ())]
    if verb in DATA_VERBS:
        found += _data_of(settings)
    return list(dict.fromkeys(found))


def outputs_of(verb: str, args: Sequence[str]) -> list[Thing]:
    """What a trainkit step makes, as far as its arguments tell."""
    given = sort_arguments(args)
    if verb == "init":
        return [thing(word) for word in given.words[:1]]
    found = [thing(path) for name in OUTPUT_OPTIONS for path in given.options.get(name, ())]
    if verb in OUTPUT_KEY:
        found += [thing(path) for path in _listed(_settings(given).get(OUTPUT_KEY[verb]))]
    return found


def must_be_there(verb: str, args: Sequence[str]) -> list[Thing]:
    """The inputs without which the step cannot begin: its config or folder, and the rows it is given."""
    given = sort_arguments(args)
    if verb == "init":
        return [thing(path, "data") for path in given.options.get("--data", ())]
    found = [thing(word) for word in given.words[:1]]
    if verb in DATA_VERBS:
        found += [one for one in _data_of(_settings(given)) if one.kind == "entry"]
    return found


def _data_of(settings: dict[str, Any]) -> list[Thing]:
    """The datasets that a config names: their entries, and their files as far as they can be found."""
    folder = str(settings.get("dataset_dir") or DATA_DIR)
    if folder == "ONLINE" or folder.startswith("REMOTE:"):
        return []
    names = [name for key in ("dataset", "eval_dataset") for name in _listed(settings.get(key))]
    return [one for name in dict.fromkeys(names) for one in entry_and_data(folder, name)]


def faults_of(verb: str, args: Sequence[str]) -> list[str]:
    """What is missing for the step to make sense."""
    given = sort_arguments(args)
    faults = []
    if not given.words:
        faults.append(
            f"trainkit {verb} needs a {'folder' if verb == 'init' else 'model folder' if verb == 'chat' else 'config'} as first word of args"
        )
    if verb == "init" and not given.options.get("--data"):
        faults.append("trainkit init needs --data, SRC in args: the rows its tokenizer is trained on")
    if verb == "chat" and not given.options.get("--prompt"):
        faults.append('trainkit chat needs --prompt, "QUESTION" in args: nobody is there to type one')
    return faults


def is_finished(args: Sequence[str]) -> bool:
    """Whether the output folder of a ``run`` says that its training is complete."""
    for folder in outputs_of("run", args):
        try:
            record = json.loads(Path(folder.path, RUN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("status") == "finished":
            return True
    return False


def _settings(given: Arguments) -> dict[str, Any]:
    return {**_read_config(given.words[0] if given.words else None), **given.overrides}


def _read_config(path: str | None) -> dict[str, Any]:
    """A config's settings; nothing of one that cannot be read, for trainkit will say so in its own words."""
    try:
        value = yaml.safe_load(Path(path or "").read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[str]:
    """One name, names with commas, or a list of names."""
    if value is None or isinstance(value, bool):
        return []
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts if str(part).strip()]
