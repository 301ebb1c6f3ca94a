"""The same ids as LLaMA-Factory 0.9.5 under `compat: strict`, file by file (tests/golden/README.md tells their source)."""

import hashlib
import json

import pytest

from tests.conftest import QWEN2, SHARED, needs_shared, run_python
from trainkit.config import load_config
from trainkit.encode import load, rows_to_write

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
