"""Streamed rows become the very examples that encoded ones do, and every row of the first epoch is accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.encode import Example
from trainkit.config import load_config
from trainkit.data.feed import load_data
from trainkit.data.stream_feed import StreamData, stream_data
from trainkit.data.stream_steps import StreamSteps
from trainkit.preflight import check_places

Run = Callable[..., Any]
LONG = "A rope along the wall, and then one more. "
ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": f"Question {n}?"},
            {"role": "assistant", "content": "Yes. " * (n % 4 + 1)},
        ]
    }
    for n in range(12)
]
ROWS[2]["messages"] *= 3
ROWS[3]["messages"].insert(0, {"role": "system", "content": "Be brief."})
ROWS[4]["messages"] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": LONG},
    {"role": "assistant", "content": LONG},
    {"role": "user", "content": "And <|im_end|> so?"},
    {"role": "assistant", "content": "So it is."},
]
ROWS[6]["messages"] = ROWS[6]["messages"] * 2
ROWS[6] = {"messages": [dict(m) for m in ROWS[6]["messages"]]}
ROWS[6]["messages"][1]["weight"] = 0
ROWS[6]["messages"][3]["weight"] = 0.5
ROWS[7] = {"messages": [{"role": "user", "content": "No answer"}]}
ROWS[9] = {"messages": "no list"}
BAD = {7, 9}
TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}
INFO = {
    "rows": {"file_name": "rows.jsonl", "formatting": "openai", "columns": {"messages": "messages"}, "tags": TAGS},
    "pages": {"file_name": "pages.txt", "columns": {"prompt": "text"}},
}


@pytest.fixture
def keys(settings: Run, tmp_path: Path) -> Run:
    """``keys(cutoff_len=32)``: a streamed run over twelve rows of the openai format, two of them bad."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    (tmp_path / "pages.txt").write_text("".join(f"Day {n}: {LONG}\n" for n in range(9)), "utf-8")
    (tmp_path / "dataset_info.json").write_text(json.dumps(INFO))
    fixed = {"dataset": "rows", "dataset_dir": str(tmp_path), "streaming": True, "disable_shuffling": True}
    return lambda **changes: settings(**{**fixed, **changes})


@pytest.fixture
def streamed(keys: Run) -> Callable[..., StreamData]:
    def load(**changes: Any) -> StreamData:
        config = load_config(keys(**changes))
        return stream_data(config, check_places(config))

    return load


def told(example: Any) -> Any:
    """All that an example holds."""
    return list(example.ids), list(example.labels), example.num_cut, example.weights and list(example.weights)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cutoff_len": 40},
        {"cutoff_len": 48, "truncation": "turns_end"},
        {"cutoff_len": 48, "truncation": "turns_start"},
        {"cutoff_len": 48, "truncation": "left", "template": "llama2"},
        {"cutoff_len": 48, "truncation": "turns_end", "template": "llama2"},
        {"mask_history": True},
        {"compat": "strict"},
        {"special_text": "keep", "default_system": "Speak plainly."},
        {"template": "qwen3"},
        {"stage": "pt", "dataset": "pages", "cutoff_len": 32},
        {"stage": "pt", "dataset": "pages", "packing": False},
    ],
    ids=str,
)
def test_a_streamed_example_is_the_encoded_one(keys: Run, streamed: Run, changes: dict[str, Any]) -> None:
    config = load_config(keys(**changes, streaming=False))
    encoded = [told(example) for example in load_data(config, check_places(config)).examples.train]
    stream = streamed(**changes, max_steps=len(encoded), per_device_train_batch_size=1)
    assert [told(stream.plan.step(number)[0][0]) for number in range(len(encoded))] == encoded
    assert len(encoded) > 5


def test_the_first_epoch_s_rows_are_counted_once_and_those_that_fail_are_kept(
    streamed: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(StreamSteps.__init__.__kwdefaults__, "window", 4)
    data = streamed(per_device_train_batch_size=1, max_steps=50)
    seen = []
    for number in range(35):
        data.plan.step(number)
        seen.append(data.examples.ledger.rows_in)
    ledger = data.examples.ledger
    assert (seen[0], seen[9], seen[-1]) == (4, 12, 12)
    assert (ledger.rows_in, ledger.rows_out, ledger.num_rejected) == (12, 10, 2)
    ledger.check()
    assert [(r["row"], r["field"]) for r in data.examples.rejects] == [(8, "messages"), (10, "messages")]
    assert [r["raw"] for r in data.examples.rejects] == [ROWS[7], ROWS[9]]
    assert {r["file"] for r in data.examples.rejects} == {str(tmp_path / "rows.jsonl")}
    assert data.examples.special_texts == 1


def test_what_the_cutoff_takes_from_streamed_rows_is_counted(streamed: Run) -> None:
    data = streamed(per_device_train_batch_size=10, max_steps=9, cutoff_len=48)
    cut = [example.num_cut for micro in data.plan.step(0) for example in micro if example.num_cut]
    assert len(cut) > 0
    data.plan.step(1)
    assert data.examples.cut() == (len(cut), sum(cut))


def test_held_out_rows_are_the_first_and_their_faults_are_counted_too(streamed: Run) -> None:
    data = streamed(val_size=8, per_device_train_batch_size=1, max_steps=9)
    assert len(data.examples.evals[""]) == 7  # row 8 is none
    assert (data.examples.ledger.rows_in, data.examples.ledger.rows_out) == (8, 7)
    assert [r["row"] for r in data.examples.rejects] == [8]
    trained = [data.tokenizer.decode(data.plan.step(number)[0][0].ids) for number in range(6)]
    assert ["Question 8?" in text for text in trained] == [True, False, False, True, False, False]
    assert not any(f"Question {n}?" in text for text in trained for n in range(7))
    (batches,) = [list(batches) for batches in data.eval_batches(4).values()]
    assert [len(batch.input_ids) for batch in batches] == [4, 3]
    assert (data.examples.ledger.rows_in, data.examples.ledger.num_rejected) == (12, 2)
    data.examples.ledger.check()


def test_an_account_goes_on_where_it_was_left(streamed: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(StreamSteps.__init__.__kwdefaults__, "window", 7)
    changes = {"per_device_train_batch_size": 1, "max_steps": 50, "val_size": 1, "cutoff_len": 48}
    whole, first, rest = streamed(**changes), streamed(**changes), streamed(**changes)
    for number in range(12):
        whole.plan.step(number)
    for number in range(5):
        first.plan.step(number)
    first.examples.write_rejects(tmp_path / "rejected_rows.jsonl")
    assert [r["row"] for r in first.examples.rejects] == [8]
    rest.plan.go_to(5, first.plan.position)
    rest.account.go_on(json.loads(json.dumps(first.account.state())), tmp_path / "rejected_rows.jsonl")
    for number in range(5, 12):
        rest.plan.step(number)
    assert rest.account.state() == whole.account.state()
    assert rest.examples.rejects == whole.examples.rejects
    assert rest.examples.cut() == whole.examples.cut()


def test_another_file_is_another_stream(streamed: Run, tmp_path: Path) -> None:
    first = streamed().digest()
    assert streamed(max_steps=3).digest() == first
    with (tmp_path / "rows.jsonl").open("a") as handle:
        handle.write(json.dumps(ROWS[0]) + "\n")
    assert streamed().digest() != first


def test_a_packed_stream_holds_blocks_of_whole_examples(streamed: Run) -> None:
    data = streamed(packing=True, cutoff_len=128, per_device_train_batch_size=1, max_steps=9)
    ((block,),) = data.plan.step(0)
    assert all(isinstance(example, Example) for example in block)
    batch = data.batch_of([block])
    assert batch.attention_mask is None
    assert batch.input_ids.shape == (1, 128)
    assert batch.num_tokens == sum(len(example.ids) for example in block)


# --- as a run -----------------------------------------------------------------------------------------------------------


def test_a_streamed_run_evaluates_on_each_set_by_name(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    names = {"eval_dataset": "questions,more", "eval_on_each_dataset": True, "do_eval": True}
    folder = tmp_path / "data"
    folder.mkdir()
    row = {"instruction": "Who?", "output": "I."}
    for name in ("questions", "more"):
        (folder / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * (3 + (name == "more")), "utf-8")
    info = {name: {"file_name": f"{name}.jsonl"} for name in ("questions", "more")}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for streaming in (True, False):
        path = config_file(
            **names, streaming=streaming, dataset_dir=str(folder), max_steps=2, eval_strategy="steps", eval_steps=1,
            output_dir=str(tmp_path / f"out-{streaming}"),
        )  # fmt: skip
        ran = trainkit("run", "--json", path)
        assert ran.code == 0, ran.err
        found = json.loads((tmp_path / f"out-{streaming}" / "eval_results.json").read_text())
        assert {"eval_questions_loss", "eval_more_loss"} <= found.keys()
        assert "eval_loss" not in found
        assert found["eval_questions_loss"] == pytest.approx(found["eval_more_loss"], rel=1e-4)
        state = json.loads((tmp_path / f"out-{streaming}" / "trainer_state.json").read_text())
        told = [line["step"] for line in state["log_history"] if "eval_more_loss" in line]
        assert told == [1, 2]
        assert (ran.json["rows_in"], ran.json["rows_out"]) == ((3, 3) if streaming else (10, 10))


def test_rows_rejected_before_and_after_a_stop_are_all_written(
    trainkit: Run, keys: Run, config_file: Run, stop_after_five: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(StreamSteps.__init__.__kwdefaults__, "window", 9)
    changes = {**keys(), "per_device_train_batch_size": 1, "max_steps": 12, "save_strategy": "steps", "save_steps": 5}
    path = config_file(**changes)
    stop_after_five(path)
    rejects = tmp_path / "out" / "rejected_rows.jsonl"
    assert [json.loads(line)["row"] for line in rejects.read_text().splitlines()] == [8]
    ran = trainkit("run", "--json", path)
    assert ran.code == 0, ran.err
    assert [json.loads(line)["row"] for line in rejects.read_text().splitlines()] == [8, 10]
    assert (ran.json["rows_in"], ran.json["rows_out"], sum(ran.json["rejected"].values())) == (12, 10, 2)
    assert "12 rows of the first epoch read, 2 rejected" in ran.err
