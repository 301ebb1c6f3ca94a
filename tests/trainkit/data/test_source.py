"""Dataset names to examples: every row is trained on, held out, or rejected with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.datasets import find_entry
from registry.encode import IGNORE, Example
from registry.errors import UsageError
from registry.tokenizer import open_tokenizer
from trainkit.config import load_config
from trainkit.data.account import Examples
from trainkit.data.source import open_examples

GOOD = {"instruction": "Who goes there?", "input": "", "output": "A friend."}
LINES = [
    json.dumps(GOOD),
    json.dumps({"instruction": "No answer here."}),
    '{"instruction": "cut off',
    json.dumps({**GOOD, "output": 7}),
    json.dumps({**GOOD, "output": ""}),
    json.dumps({**GOOD, "output": "A foe."}),
]


@pytest.fixture
def load(model_folder: Path, tmp_path: Path) -> Callable[..., Examples]:
    """``load(lines, cutoff_len=8)``: the examples of a JSONL of these lines, with further keys of a config."""

    def examples(
        lines: list[str], *, name: str = "rows.jsonl", columns: dict[str, str] | None = None, **keys: Any
    ) -> Examples:
        (tmp_path / name).write_text("\n".join(lines) + "\n", "utf-8")
        entry = {"file_name": name, **({"columns": columns} if columns else {})}
        (tmp_path / "dataset_info.json").write_text(json.dumps({"rows": entry}), "utf-8")
        asked = {
            "model_name_or_path": str(model_folder),
            "template": "qwen3_nothink",
            "dataset": "rows",
            "dataset_dir": str(tmp_path),
        }
        config = load_config({**asked, **keys})
        return open_examples(config, {"rows": find_entry("rows", tmp_path)}, model_folder)[0]

    return examples


def test_each_row_that_is_not_trained_on_is_counted_by_reason_and_kept_with_its_place(
    load: Callable[..., Examples], tmp_path: Path
) -> None:
    found = load(LINES)
    assert (found.ledger.rows_in, found.ledger.rows_out, found.ledger.num_rejected) == (6, 3, 3)
    assert len(found.train) == 3  # an empty answer still trains its end
    assert [(r["row"], r["field"]) for r in found.rejects] == [(2, "output"), (3, "row"), (4, "output")]
    assert found.rejects[1]["raw"] == '{"instruction": "cut off'
    assert found.rejects[2]["raw"] == {**GOOD, "output": 7}
    assert all(r["file"] == str(tmp_path / "rows.jsonl") and r["reason"] for r in found.rejects)
    assert sum(found.ledger.rejected.values()) == 3


def test_rejected_rows_are_written_and_an_older_file_goes_when_there_are_none(
    load: Callable[..., Examples], tmp_path: Path
) -> None:
    path = tmp_path / "rejected_rows.jsonl"
    load(LINES).write_rejects(path)
    assert [json.loads(line)["row"] for line in path.read_text("utf-8").splitlines()] == [2, 3, 4]
    load([LINES[0]]).write_rejects(path)
    assert not path.exists()


@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=12), st.sampled_from([0, 0.3, 1]))
def test_no_row_is_lost(load_rows: Callable[..., Examples], lines: list[str], val_size: float) -> None:
    good = sum(line in (LINES[0], LINES[4], LINES[5]) for line in lines)
    if good == 0 or (val_size and len(lines) < 3):
        return
    try:
        found = load_rows(lines, val_size=val_size)
    except UsageError as error:  # the split left only rejected rows to train on
        assert "no example to train on is left" in str(error)  # noqa: PT017
        return
    assert found.ledger.rows_in == len(lines) == found.ledger.rows_out + found.ledger.num_rejected
    assert len(found.train) + len(found.eval) == good == found.ledger.rows_out
    assert len(found.rejects) == found.ledger.num_rejected


@pytest.fixture(scope="module")
def load_rows(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Examples]:
    """As ``load``, for many examples of one property."""
    return load.__wrapped__(model_folder, tmp_path_factory.mktemp("rows"))  # type: ignore[attr-defined]


def test_the_first_max_samples_rows_are_taken_broken_ones_included(load: Callable[..., Examples]) -> None:
    found = load(LINES, max_samples=2)
    assert (found.ledger.rows_in, found.ledger.rows_out, found.ledger.num_rejected) == (2, 1, 1)


def test_a_row_whose_answer_does_not_fit_is_rejected_and_under_strict_it_is_kept(load: Callable[..., Examples]) -> None:
    lines = [json.dumps({**GOOD, "instruction": "word " * 60, "output": ""}), LINES[0]]
    found = load(lines, cutoff_len=4)
    assert [(r["row"], r["field"], r["reason"]) for r in found.rejects] == [
        (1, "answer", "no token of the answer is left to train within cutoff_len 4")
    ]
    kept = load(lines, cutoff_len=4, compat="strict")
    assert (len(kept.train), kept.rejects) == (2, [])
    assert kept.train[0].num_trained == 0  # type: ignore[union-attr]


def test_when_no_example_is_left_the_reasons_are_told(load: Callable[..., Examples]) -> None:
    with pytest.raises(UsageError) as caught:
        load(LINES[1:4])
    assert str(caught.value).startswith("rows: no example to train on is left\n  Rejected: ")
    assert "1 × " in str(caught.value)


def test_text_that_fills_no_block_says_what_to_lower(load: Callable[..., Examples]) -> None:
    with pytest.raises(UsageError, match="The text fills no block of cutoff_len 512; lower it"):
        load(["one line"], name="rows.txt", columns={"prompt": "text"}, stage="pt", cutoff_len=512)


def test_text_becomes_blocks_and_the_tokens_left_over_are_counted(
    load: Callable[..., Examples], model_folder: Path
) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "qwen3_nothink")
    lines = [f"The tide of day {n} comes late." for n in range(9)]
    found = load(lines, name="rows.txt", columns={"prompt": "text"}, stage="pt", cutoff_len=32)
    whole = [i for ids in tokenizer.encode_batch([line + "<|im_end|>" for line in lines]) for i in ids]
    assert [list(e.ids) for e in found.train] == [whole[i : i + 32] for i in range(0, len(whole) - 31, 32)]  # type: ignore[union-attr]
    assert found.dropped_tokens == len(whole) % 32
    assert (found.ledger.rows_in, found.ledger.rows_out) == (9, 9)


def test_a_chat_becomes_its_prompt_untrained_and_its_answer_with_its_end_trained(
    load: Callable[..., Examples], model_folder: Path
) -> None:
    tokenizer, _ = open_tokenizer(model_folder, "qwen3_nothink")
    (one,) = load([LINES[0]]).train
    assert isinstance(one, Example)
    trained = [i for i, label in zip(one.ids, one.labels, strict=True) if label != IGNORE]
    assert (
        tokenizer.decode(one.ids)
        == "<|im_start|>user\nWho goes there?<|im_end|>\n<|im_start|>assistant\nA friend.<|im_end|>\n"
    )
    assert tokenizer.decode(trained) == "A friend.<|im_end|>\n"


def test_a_digest_tells_other_rows_other_rules_and_another_order(load: Callable[..., Examples]) -> None:
    both = [LINES[0], LINES[5]]
    first = load(both).digest()
    assert load(both).digest() == first
    others = [load(both[::-1]), load(both[:1]), load(both, train_on_prompt=True), load(both, template="chatml_de")]
    assert len({first, *(other.digest() for other in others)}) == 5
