"""A run names what it does unlike LLaMA-Factory, once, and only what touches it."""

from trainkit.compat import deviations
from trainkit.config import load_config

BASE = {"model_name_or_path": "m", "template": "qwen", "dataset": "d", "output_dir": "o", "do_train": True}


def named(**keys):
    return " | ".join(
        deviations(
            load_config({**BASE, **keys}), adds_bos=True, pads_with_eos=True, blank_lines=True, openai_rows=False
        )
    )


def test_an_sft_run_has_nothing_to_name():
    assert named(stage="sft") == ""


def test_a_pt_run_names_its_blocks_its_bos_and_its_divisor():
    text = named(stage="pt")
    assert "across all rows" in text
    assert "BOS" in text
    assert "end of a text is trained" in text
    assert "blank lines" in text
    assert "divided by the tokens that have one before them" in text
    assert "across all rows" not in named(stage="pt", packing=False)


def test_dpo_on_a_continued_adapter_names_its_reference():
    assert "given adapter" in named(stage="dpo", adapter_name_or_path="a/b")
    assert named(stage="dpo", adapter_name_or_path="a/b", create_new_adapter=True) == ""


def test_strict_has_no_differences():
    assert named(stage="pt", compat="strict") == ""
