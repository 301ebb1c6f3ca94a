"""Export: the merged model says what base and adapter said apart, and any Hugging Face tool loads it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Run = Callable[..., Any]
IDS = torch.tensor([[5, 60, 7, 80, 9, 100, 11, 120]])


@pytest.fixture(scope="module")
def adapter(model_folder: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter over two steps of training, with template llama2, which the base model's tokenizer does not have."""
    from trainkit.config import load_config
    from trainkit.run import run

    folder = tmp_path_factory.mktemp("adapters") / "one"
    keys = {
        "model_name_or_path": str(model_folder), "do_train": True, "finetuning_type": "lora", "template": "llama2", "dataset": "questions",
        "dataset_dir": str(data_folder), "cutoff_len": 64, "output_dir": str(folder), "max_steps": 4, "learning_rate": 0.05,
        "lr_scheduler_type": "constant", "save_strategy": "no", "use_cpu": True,
    }  # fmt: skip
    run(load_config(keys), quiet=True)
    return folder


@pytest.fixture
def exported(config_file: Run, adapter: Path) -> Callable[..., Path]:
    """``exported(infer_dtype="bfloat16")``: the config of an export of that adapter into ``merged``."""

    def write(**changes: Any) -> Path:
        keys = {
            "finetuning_type": "lora",
            "adapter_name_or_path": str(adapter),
            "do_train": False,
            "dataset": None,
            "template": "llama2",
        }
        return config_file(**{**keys, "export_dir": "merged", **changes})

    return write


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits.float()


def test_the_merged_model_says_what_base_and_adapter_said(
    trainkit: Run, exported: Run, adapter: Path, model_folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    found = trainkit("export", exported(), "--json").json
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    before = logits(base)
    apart = logits(PeftModel.from_pretrained(base, adapter))
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    torch.testing.assert_close(merged, apart, rtol=0, atol=1e-5)
    assert float((merged - before).abs().max()) > 0.01  # the adapter says something of its own
    assert found["largest_logit_difference"] < 1e-5
    assert (found["adapters"], found["dtype"]) == ([str(adapter)], "float32")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_the_tokenizer_and_the_template_it_was_trained_with_travel_along(
    trainkit: Run, exported: Run, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    assert trainkit("export", exported()).code == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    messages = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == "[INST] hi [/INST]"


def test_the_type_of_the_weights_can_be_chosen(trainkit: Run, exported: Run, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert trainkit("export", exported(infer_dtype="bfloat16"), "--json").json["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "merged").dtype == torch.bfloat16


def test_a_model_without_adapter_is_exported_as_it_is(
    trainkit: Run, exported: Run, model_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    found = trainkit("export", exported(adapter_name_or_path=None, template=None), "--json").json
    assert (found["adapters"], found["largest_logit_difference"]) == ([], None)
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    assert torch.equal(merged, logits(AutoModelForCausalLM.from_pretrained(model_folder)))


def test_a_folder_of_somebody_else_is_left_alone_and_an_earlier_export_replaced(
    trainkit: Run, exported: Run, tmp_path: Path
) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "thesis.txt").write_text("do not touch")
    ran = trainkit("export", exported())
    assert ran.code == 2
    assert "merged: the folder is not empty, and no earlier export\n  Choose another export_dir." in ran.err
    assert [p.name for p in (tmp_path / "merged").iterdir()] == ["thesis.txt"]
    assert trainkit("export", exported(export_dir="other")).code == 0
    assert trainkit("export", exported(export_dir="other")).code == 0


def test_the_manifest_says_what_was_merged(trainkit: Run, exported: Run, adapter: Path, tmp_path: Path) -> None:
    assert trainkit("export", exported()).code == 0
    manifest = json.loads((tmp_path / "merged.manifest.json").read_text("utf-8"))
    assert (manifest["command"], manifest["adapters"]) == ("trainkit export", [str(adapter)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"export_dir": None}, '"export_dir" is missing: name the folder for the merged model'),
        ({"adapter_name_or_path": "./nowhere"}, "no such adapter folder"),
        ({"model_name_or_path": "./nowhere"}, "no such model folder"),
    ],
)
def test_what_is_missing_is_named(trainkit: Run, exported: Run, changes: dict[str, Any], message: str) -> None:
    ran = trainkit("export", exported(**changes))
    assert ran.code == 2
    assert message in ran.err


def test_an_adapter_of_another_model_is_told_in_a_line(
    trainkit: Run, exported: Run, data_folder: Path, tmp_path: Path
) -> None:
    rows = [part for name in ("questions.jsonl", "pairs.jsonl", "pages.txt") for part in ("--data", data_folder / name)]
    sizes = ("--vocab-size", 400, "--hidden-size", 16, "--layers", 2, "--heads", 2, "--max-length", 64)
    assert trainkit("init", "wide", *rows, *sizes).code == 0
    ran = trainkit("export", exported(model_name_or_path="wide"))
    assert ran.code == 2
    assert "the adapter belongs to another model: model.layers.0.mlp.down_proj" in ran.err
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    "keys",
    [
        {"finetuning_type": "oft", "oft_block_size": 8},
        {"finetuning_type": "lora", "pissa_init": True, "use_dora": True},
    ],
    ids=["oft", "pissa and dora"],
)
def test_adapters_of_other_kinds_are_merged_too(
    trainkit: Run, exported: Run, settings: Run, tmp_path: Path, keys: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM

    from tests.trainkit.methods.models import load, nudge, save
    from trainkit.methods.pissa import keep_initial

    fresh = load(settings(**keys))
    keep_initial(fresh, tmp_path / "trained")
    model = nudge(fresh)
    folder = save(model, tmp_path / "trained")
    found = trainkit("export", exported(adapter_name_or_path=folder, template=None), "--json").json
    assert found["largest_logit_difference"] < 1e-5
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    torch.testing.assert_close(merged, logits(model), rtol=0, atol=1e-5)


def test_a_base_that_is_saved_quantised_is_not_merged_into(
    trainkit: Run, exported: Run, settings: Run, tmp_path: Path
) -> None:
    from trainkit.config import load_config
    from trainkit.model import load_base

    pytest.importorskip("bitsandbytes")
    config = load_config(settings(finetuning_type="lora", quantization_bit=4))
    load_base(config.model, torch.float32).save_pretrained(tmp_path / "packed")
    for path in Path(config.model.model_name_or_path).glob("tokenizer*"):
        (tmp_path / "packed" / path.name).write_bytes(path.read_bytes())
    ran = trainkit("export", exported(model_name_or_path="packed", template=None))
    assert ran.code == 2
    assert "packed: the weights are quantised, and export writes ordinary ones" in ran.err


@pytest.mark.parametrize(("error", "code"), [(OSError(28, "No space left on device"), 3), (None, 130)])
def test_a_full_disk_and_ctrl_c_leave_the_earlier_export_as_it_was(
    trainkit: Run, exported: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None, code: int
) -> None:
    import transformers

    assert trainkit("export", exported()).code == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "merged").iterdir()}

    def torn(self: Any, folder: Path, **options: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        if error:
            raise error
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", torn)
    assert trainkit("export", exported()).code == code
    assert {p.name: p.read_bytes() for p in (tmp_path / "merged").iterdir()} == before
