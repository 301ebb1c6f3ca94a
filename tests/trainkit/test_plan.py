"""trainkit plan: every row is accounted for, and every figure is that of the run itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.errors import UsageError
from trainkit.config import load_config
from trainkit.plan import plan_run
from trainkit.plan_text import print_plan
from trainkit.run import run

Run = Callable[..., Any]
YAMLS = Path(__file__).with_name("yamls")
# stage -> a dataset of its kind
DATA = {"pt": "pages", "sft": "questions", "rm": "pairs", "dpo": "pairs", "kto": "judged"}
JUDGED = {
    "file_name": "judged.jsonl",
    "columns": {"prompt": "instruction", "response": "output", "kto_tag": "good"},
}
TOPS = {
    "command", "source", "stage", "compat", "config", "not_built", "notes", "model", "rows", "datasets", "examples",
    "tokens", "nothing_trained", "stop_token", "cutoff_len", "truncation", "lengths", "evaluation", "steps",
    "compat_notes", "warnings", "seconds", "memory", "time", "disk",
}  # fmt: skip


def dataset(folder: Path, rows: list[Any], name: str = "mine", **entry: Any) -> dict[str, str]:
    """Write rows and their dataset_info.json; returns the keys that name them."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    known = folder / "dataset_info.json"
    entries = json.loads(known.read_text("utf-8")) if known.exists() else {}
    known.write_text(json.dumps(entries | {name: {"file_name": f"{name}.jsonl", **entry}}), "utf-8")
    return {"dataset": name, "dataset_dir": str(folder)}


def answer(text: str) -> dict[str, str]:
    return {"instruction": "Say it.", "output": text}


def test_one_object_with_all_its_parts(trainkit: Run, config_file: Run) -> None:
    found = trainkit("plan", config_file(), "--json").json
    assert set(found) == TOPS
    assert (found["command"], found["stage"], found["examples"]) == ("plan", "sft", 24)
    assert found["tokens"]["all"] == sum(one["tokens"] for one in found["tokens"]["by_role"].values())
    assert found["stop_token"]["texts"] == ["<|im_end|>"]


def test_nothing_heavy_is_imported_and_nothing_is_written(config_file: Run, tmp_path: Path) -> None:
    probe = """
import sys
sys.argv = ["trainkit", *sys.argv[1:]]
from trainkit.cli import main
try:
    main()
finally:
    print("HEAVY", *(n for n in ("torch", "transformers", "peft") if n in sys.modules))
"""
    path = config_file()
    for verb in ("show",):
        command = [sys.executable, "-c", probe, verb, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        assert (done.returncode, done.stdout.splitlines()[-1].strip()) == (0, "HEAVY")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"packing": True, "cutoff_len": 100},
        {"packing": True, "cutoff_len": 100, "compat": "strict"},
        {
            "batching_strategy": "length_grouped",
            "gradient_accumulation_steps": 3,
            "max_steps": -1,
            "num_train_epochs": 2.5,
        },
        {"stage": "pt", "dataset": "pages"},
        {"stage": "dpo", "dataset": "pairs", "val_size": 0.25},
    ],
    ids=["sft", "packed", "packed as theirs", "grouped", "pt", "dpo"],
)
def test_steps_and_tokens_are_those_of_the_run(settings: Run, keys: dict[str, Any]) -> None:
    config = load_config(settings(**keys))
    found = plan_run(config)
    done = run(load_config(settings(**keys, **({} if "max_steps" in keys else {"max_steps": 1}))), quiet=True)
    assert found["examples"] == len(done.examples.train)
    assert found["tokens"]["trained"] == int(done.examples.train.trained.sum())
    if "max_steps" in keys:
        state = json.loads((done.folder / "trainer_state.json").read_text("utf-8"))
        assert state["global_step"] == found["steps"]["total"]
        assert state["epoch"] == pytest.approx(found["steps"]["epochs"], abs=1e-3)


def test_every_row_of_a_dataset_is_accounted_for(settings: Run, tmp_path: Path) -> None:
    rows = [answer("yes"), answer("no"), {"instruction": "a"}, "{broken", answer("word " * 100), answer("late")]
    keys = dataset(tmp_path, rows)
    found = plan_run(load_config(settings(**keys, max_samples=5, cutoff_len=40, truncation="drop")))
    (mine,) = found["datasets"]
    assert (mine["rows"], mine["chosen"], mine["left_out"]) == (6, 5, 1)
    assert (mine["examples"], sum(mine["rejected"].values())) == (2, 3)
    assert any("cutoff_len 40 (truncation: drop)" in reason for reason in mine["rejected"])
    assert found["rows"]["rows_in"] == found["rows"]["rows_out"] + sum(found["rows"]["rejected"].values()) == 5


def test_what_the_mix_leaves_out_and_repeats_is_told(settings: Run, tmp_path: Path) -> None:
    dataset(tmp_path, [answer(str(n)) for n in range(3)], "few")
    keys = dataset(tmp_path, [answer(str(n)) for n in range(10, 18)], "many") | {"dataset": "few,many"}

    def told(strategy: str) -> list[tuple[int, int, int]]:
        found = plan_run(load_config(settings(**keys, mix_strategy=strategy)))["datasets"]
        return [(one["examples"], one["left_out_by_mix"], one["repeated_by_mix"]) for one in found]

    assert told("concat") == [(3, 0, 0), (8, 0, 0)]
    assert told("interleave_under") == [(3, 0, 0), (3, 5, 0)]
    assert told("interleave_over") == [(8, 0, 5), (8, 0, 0)]


def test_rows_held_out_are_told_apart(settings: Run) -> None:
    found = plan_run(load_config(settings(val_size=6)))
    (mine,) = found["datasets"]
    assert (mine["examples"], mine["held_out"], mine["left_out_by_mix"]) == (18, 6, 0)
    assert found["evaluation"]["all"]["examples"] == 6


def test_a_cut_that_takes_the_stop_token_away_is_told(settings: Run, tmp_path: Path) -> None:
    keys = dataset(tmp_path, [answer("short"), answer("word " * 100), answer("brief")])
    found = plan_run(load_config(settings(**keys)))
    ends = found["stop_token"]
    assert (ends["answers"], ends["trained"], ends["cut_off"]) == (3, 2, 1)
    assert (
        "in 1 of 3 examples the end of the answer is cut off, so there the model is not taught to stop"
        in found["warnings"]
    )
    assert (found["lengths"]["examples_cut"], found["lengths"]["kept"]["100"]) == (1, 64)
    assert found["lengths"]["uncut"]["100"] == 64 + found["lengths"]["tokens_cut"]


def test_examples_that_train_nothing_are_counted(settings: Run, tmp_path: Path) -> None:
    rows = [
        answer("yes"),
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo", "weight": 0}]},
    ]
    keys = dataset(
        tmp_path, rows[1:] * 2, formatting="openai", columns={"messages": "messages"},
        tags={"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    )  # fmt: skip
    with pytest.raises(UsageError, match="no example to train on is left"):
        plan_run(load_config(settings(**keys)))
    dataset(tmp_path, rows[:1], "plain")
    found = plan_run(load_config(settings(**keys | {"dataset": "plain,mine"})))
    assert found["nothing_trained"] == {"examples": 0, "share": 0.0, "rejected": 2}


def test_packed_blocks_tell_their_fill_and_others_their_padding(settings: Run) -> None:
    packed = plan_run(load_config(settings(packing=True, cutoff_len=128)))
    steps = packed["steps"]
    assert steps["fill"] == pytest.approx(packed["tokens"]["all"] / (steps["blocks"] * 128))
    padded = plan_run(load_config(settings()))["steps"]
    assert list(padded["padding"]) == ["plain", "length_grouped", "token_balanced"]
    assert all(0 <= share < 1 for share in padded["padding"].values())


def test_text_that_fills_no_block_is_told(settings: Run) -> None:
    found = plan_run(load_config(settings(stage="pt", dataset="pages", cutoff_len=100)))
    assert found["tokens"]["left_over"] > 0
    assert found["tokens"]["all"] == 100 * found["examples"]
    assert found["steps"]["fill"] == 1.0


def test_the_config_tells_where_each_value_is_from(trainkit: Run, config_file: Run) -> None:
    lines = trainkit("plan", config_file(template="qwen"), "seed=7", "--lora_rank", "4", "--json").json["config"]
    found = {line["key"]: (line["value"], line["from"]) for line in lines}
    assert found["stage"] == ("sft", next(line["from"] for line in lines if line["key"] == "stage"))
    assert found["stage"][1].startswith("file, line ")
    assert found["seed"] == (7, "override")
    assert found["lora_rank"] == (4, "flag")
    assert found["tool_format"] == ("qwen", "template qwen")
    assert found["warmup_ratio"][1] == "default"
    froms = [line["from"] == "default" for line in lines]
    assert froms == sorted(froms)


def test_judged_rows_are_planned_with_their_kl_rows(settings: Run, tmp_path: Path) -> None:
    rows = [{**answer(str(n)), "good": bool(n % 2)} for n in range(4)]
    keys = dataset(tmp_path, rows, "judged", **{key: value for key, value in JUDGED.items() if key != "file_name"})
    found = plan_run(load_config(settings(stage="kto", **keys), training=False))
    assert (found["examples"], found["not_built"]) == (4, [])
    assert set(found["tokens"]["by_role"]) == {"prompt", "answer", "kl"}


def test_people_read_tables(trainkit: Run, config_file: Run) -> None:
    ran = trainkit("plan", config_file(val_size=4), "-q")
    assert ran.code == 0
    assert "\x1b" not in ran.out
    for words in (
        "sft, full: ", "parameters trained (100.00%)", "questions", "assistant", "stop token: trained at the end of 20 of 20",
        "nothing trained: 0 examples", "evaluation: 4 examples", "longest", "cutoff_len 64", "padding by strategy: plain",
        "10 steps in all", "learning_rate", "file, line",
    ):  # fmt: skip
        assert words in ran.out


@pytest.mark.parametrize("path", sorted(YAMLS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(YAMLS)))
def test_every_example_config_plans(
    path: Path, model_folder: Path, data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the small model and the small datasets in the place of those that lie on the hub."""
    own = load_config(path, training=False)
    dataset(tmp_path, [{**answer("yes"), "good": True}, {**answer("no"), "good": False}], "judged", **JUDGED)
    known = json.loads((data_folder / "dataset_info.json").read_text("utf-8"))
    for entry in known.values():
        entry["file_name"] = str(data_folder / entry["file_name"])
    (tmp_path / "dataset_info.json").write_text(json.dumps(known | {"judged": JUDGED}), "utf-8")
    words = [f"model_name_or_path={model_folder}", f"dataset_dir={tmp_path}", "adapter_name_or_path=null"]
    words += [f"{key}={DATA[own.stage]}" for key in ("dataset", "eval_dataset") if getattr(own.data, key)]
    words += ["cutoff_len=64"] if own.stage == "pt" else []
    words += [f"tokenized_path={tmp_path / 'tokenized'}"] if own.data.tokenized_path else []
    found = plan_run(load_config(path, words, training=False))
    assert bool(found.get("examples") or found.get("evaluation")) == bool(own.data.dataset or own.data.eval_dataset)
    assert found["not_built"] == list(own.not_built)
    print_plan(found)
    assert all(fault in capfd.readouterr().out for fault in own.not_built[:1])
    assert not (tmp_path / "tokenized").exists()


def test_a_dataset_to_train_and_to_evaluate_on_is_repeated_by_no_mix(settings: Run) -> None:
    (mine,) = plan_run(load_config(settings(eval_dataset="questions")))["datasets"]
    assert (mine["examples"], mine["held_out"], mine["repeated_by_mix"]) == (24, 24, 0)


def test_a_stream_is_not_read(settings: Run) -> None:
    found = plan_run(load_config(settings(streaming=True), training=False))
    assert (found["rows"], found["steps"]["total"]) == (None, 10)


def test_what_a_terminal_would_obey_is_escaped(trainkit: Run, config_file: Run, tmp_path: Path) -> None:
    keys = dataset(tmp_path, [answer("yes"), '{"instruction": 1, "\\u001b[31m": 2}'])
    path = config_file(**keys, default_system="\x1b[31mred")
    for verb in ("plan", "show"):
        ran = trainkit(verb, path)
        assert (ran.code, "\x1b" in ran.out) == (0, False)
        assert "\\x1b[31mred" in ran.out
