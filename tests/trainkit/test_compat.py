"""A run names what it does unlike LLaMA-Factory, once, and only what touches it."""

from types import SimpleNamespace

import pytest

from registry.datasets import Columns, DatasetEntry, Layout
from trainkit.compat import deviations
from trainkit.config import load_config

BASE = {"model_name_or_path": "m", "template": "qwen", "dataset": "d", "output_dir": "o", "do_train": True}
PLAIN_TOKENIZER = SimpleNamespace(adds_bos=False, pad_id=1, eos_id=2)
TOOLS = Layout(columns=Columns(tools="tools"))


def entry(layout=Layout(), file_name="d.jsonl"):
    return {"d": DatasetEntry("d", None, layout, file_name)}


def named(entries=None, tokenizer=PLAIN_TOKENIZER, sets=None, **keys):
    config = load_config({**BASE, **keys}, training=False)
    return " | ".join(deviations(config, entries or entry(), tokenizer, sets))


def test_an_sft_run_has_nothing_to_name():
    assert named(stage="sft") == ""


def test_a_pt_run_names_its_blocks_its_bos_and_its_divisor():
    lines = entry(Layout(columns=Columns(prompt="text", response=None)), "d.txt")
    text = named(lines, SimpleNamespace(adds_bos=True, pad_id=2, eos_id=2), stage="pt")
    assert "across all rows" in text
    assert "BOS" in text
    assert "end of a text is trained" in text
    assert "blank lines" in text
    assert "divided by the tokens that have one before them" in text
    assert "across all rows" not in named(lines, stage="pt", packing=False)
    assert "blank lines" not in named(stage="pt")
    assert "within 4,096 rows" in named(stage="pt", streaming=True, max_steps=5)


def test_a_packed_run_names_what_packing_means_here():
    text = named(packing=True)
    assert "do not see each other" in text
    assert "best fit, afresh each epoch" in text
    assert "the first token" not in text
    assert "held-out" not in text
    assert "afresh" not in named(packing=True, disable_shuffling=True)


def test_neat_packing_keeps_examples_apart_there_too():
    text = named(neat_packing=True, train_on_prompt=True, val_size=0.1)
    assert "do not see each other" not in text
    assert "the first token of an example is not predicted" in text
    assert "held-out examples are padded" in text


@pytest.mark.parametrize(("template", "differs"), [("granite4", True), ("phi_small", True), ("llama3", False)])
def test_templates_whose_slots_are_mended_are_named(template, differs):
    assert ("plainly wrong slots" in named(template=template)) is differs


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"template": "llama3"}, "names no day"),
        ({"template": "glm4_moe"}, "each call is closed"),
        ({"template": "qwen", "tool_format": "lfm2"}, "quotes within arguments are escaped"),
        ({"template": "minimax2"}, "inside their block"),
        ({"template": "seed_oss"}, "the function tag is closed"),
        ({"template": "phi4_mini"}, "spelled anew"),
    ],
)
def test_tools_are_named_where_their_syntax_differs_and_rows_have_some(keys, text):
    assert text in named(entry(TOOLS), **keys)
    assert text not in named(**keys)


def test_tools_in_a_syntax_that_is_the_same_are_not_named():
    assert named(entry(TOOLS)) == ""
    assert named(entry(TOOLS), template="llama3", tool_prompt_date="20 Nov 2026") == ""


def test_weights_are_named_where_some_encoded_row_has_them():
    def rows(has_weights):
        return {"d": SimpleNamespace(shards=[SimpleNamespace(has_weights=has_weights)])}

    assert "weight, loss and train" in named(sets=rows(True))
    assert named(sets=rows(False)) == ""


def test_own_templates_openai_rows_judged_answers_and_remote_entries_are_named():
    assert "not guessed into slots" in named(template=None)
    assert "keep their system prompt" in named(entry(Layout("openai")))
    assert "the row before it" in named(stage="kto")
    assert "looked up in that repository" in named(dataset_dir="REMOTE:org/name")


def test_an_evaluation_names_its_mean():
    assert named(val_size=0.1) == "eval_loss is the mean over tokens (or pairs), not over batches"


def test_dpo_on_a_continued_adapter_names_its_reference():
    assert "given adapter" in named(stage="dpo", adapter_name_or_path="a/b")
    assert named(stage="dpo", adapter_name_or_path="a/b", create_new_adapter=True) == ""


@pytest.mark.parametrize("keys", [{"stage": "pt"}, {"packing": True}, {"template": "granite4"}])
def test_strict_has_no_differences(keys):
    assert named(entry(TOOLS), **keys, compat="strict") == ""


def test_mask_history_is_named_where_replies_end_with_the_example():
    assert "mask_history leaves out" in named(template="glm4", mask_history=True)
    assert "mask_history" not in named(template="glm4")
    assert "mask_history" not in named(template="qwen", mask_history=True)
