"""The same ids as LLaMA-Factory 0.9.5 under `compat: strict`, file by file (tests/golden/README.md tells their source)."""

import hashlib
import json
from pathlib import Path

import pytest

from registry.datasets import find_entry
from registry.encode import Encoder, EncodeRules
from registry.formats import STRICT_READERS
from registry.render import RenderRules
from registry.tokenizer import open_tokenizer
from tests.conftest import QWEN2, SHARED, needs_shared, run_python
from trainkit.config import load_config
from trainkit.encode import columns_of, load, rows_to_write

pytestmark = needs_shared

GOLDENS = sorted(path.stem for path in (SHARED / "goldens").glob("*.jsonl"))


def golden(name):
    """The args of a golden file, and its examples."""
    lines = (SHARED / "goldens" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    head, *examples = map(json.loads, lines)
    return head, examples


def config_of(args):
    """A golden's run; the goldens' README: llama3's tool prompt names 20 Nov 2026."""
    places = {"model_name_or_path": str(QWEN2), "dataset_dir": str(SHARED / "data")}
    rest = {"do_train": True, "finetuning_type": "lora", "compat": "strict", "tool_prompt_date": "20 Nov 2026"}
    return load_config({**args, **places, **rest}, training=False)


def test_there_are_goldens_of_every_kind():
    assert len(GOLDENS) >= 78
    assert {name.partition("-")[0] for name in GOLDENS} >= {"sft", "pt", "dpo", "kto"}


def sha_of(columns):
    return hashlib.sha256(json.dumps(columns, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", GOLDENS)
def test_strict_gives_llamafactorys_ids(name):
    head, theirs = golden(name)
    config = config_of(head["args"])
    examples, tokenizer = load(config)
    ours = list(rows_to_write(config, examples.train, tokenizer))
    assert len(ours) == head["rows"] == len(theirs)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        arrays = {key: other[key] for key in other if key != "sha"}
        if arrays:  # compared first: a difference can be read, a hash cannot
            assert (number, mine) == (number, arrays)
        assert (number, sha_of(mine)) == (number, other["sha"])


def spelled_goldens():
    """Every sft and dpo golden whose examples are its datasets' rows one after another."""
    for path in sorted((SHARED / "goldens").glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            args = json.loads(file.readline())["args"]
        if args["stage"] in ("sft", "dpo") and not args.keys() & {"packing", "neat_packing", "mix_strategy"}:
            yield path.stem


@pytest.mark.parametrize("name", spelled_goldens() if SHARED.is_dir() else [])
def test_templates_tools_and_thoughts_are_spelled_as_llamafactory_spells_them(name):
    """Rows through readers, renderer and encoder alone. README of the goldens: llama3's prompt names 20 Nov 2026."""
    head, theirs = golden(name)
    args = head["args"]
    rules = RenderRules(
        default_system=args.get("default_system"),
        enable_thinking=args.get("enable_thinking", True),
        discard_thoughts=args.get("mask_history", False),
        tool_prompt_date="20 Nov 2026",
        strict=True,
    )
    masks = {key: args.get(key, False) for key in ("mask_history", "train_on_prompt")}
    encoder = Encoder(
        *open_tokenizer(QWEN2, args["template"], rules=rules), EncodeRules(args["cutoff_len"], strict=True, **masks)
    )
    records = [record for dataset in args["dataset"].split(",") for record in records_of(dataset, args)]
    encode = encoder.chats if args["stage"] == "sft" else encoder.preferences
    ours = [columns_of(example, args["stage"]) for example in encode(records)]
    assert len(ours) == head["rows"] == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert sha_of(mine) == other["sha"]


def records_of(dataset, args):
    """The records of a dataset that the run takes."""
    entry = find_entry(dataset, SHARED / "data")
    rows = json.loads((SHARED / "data" / Path(entry.sources[0]).name).read_text(encoding="utf-8"))
    return [STRICT_READERS[entry.layout.formatting](row, entry.layout) for row in rows[: args.get("max_samples")]]


def test_encoding_imports_neither_torch_nor_transformers():
    head, _ = golden("dpo-en-cut32")
    code = (
        "import json, sys\n"
        "from trainkit.config import load_config\n"
        "from trainkit.encode import load\n"
        "examples, _ = load(load_config(json.loads(sys.argv[1])))\n"
        "print(len(examples.train), *sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    places = {"model_name_or_path": str(QWEN2), "dataset_dir": str(SHARED / "data"), "max_samples": 3}
    done = run_python(code, json.dumps({**head["args"], **places}))
    assert done.stdout.split() == ["3"], done.stderr
