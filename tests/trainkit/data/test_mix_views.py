"""Each row is seen exactly once an epoch (or as often as the mix says), by whichever rank, in whichever process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_python
from trainkit.config import load_config
from trainkit.data.feed import Data, load_data
from trainkit.data.mixing import mixed_order
from trainkit.preflight import check_places

Run = Callable[..., Any]
SIZES = {"one": 13, "two": 7, "three": 3}
MIXES: list[dict[str, Any]] = [
    {"mix_strategy": "concat"},
    {"mix_strategy": "interleave_under"},
    {"mix_strategy": "interleave_over", "interleave_probs": "0.5,0.3,0.2"},
    {"mix_strategy": "interleave_once", "interleave_probs": "0.5,0.3,0.2"},
]
WAYS: list[dict[str, Any]] = [
    {},
    {"packing": True, "cutoff_len": 96, "per_device_train_batch_size": 1},
    {"batching_strategy": "token_balanced", "gradient_accumulation_steps": 2},
    {"neat_packing": True, "cutoff_len": 96, "compat": "strict", "per_device_train_batch_size": 1},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three datasets of 13, 7 and 3 rows; each row's answer is its dataset and number."""
    found = tmp_path_factory.mktemp("mixes")
    for name, size in SIZES.items():
        rows = [{"instruction": "Which?" + "?" * (number % 5), "output": f"{name} {number}"} for number in range(size)]
        (found / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    info = {name: {"file_name": f"{name}.jsonl"} for name in SIZES}
    (found / "dataset_info.json").write_text(json.dumps(info))
    return found


@pytest.fixture
def keys(settings: Run, folder: Path) -> Run:
    return lambda **changes: settings(
        **{"dataset": "one,two,three", "dataset_dir": str(folder), "max_steps": -1, "num_train_epochs": 2, **changes}
    )


def loaded(keys: dict[str, Any], rank: int = 0, world: int = 1) -> Data:
    config = load_config(keys)
    return load_data(config, check_places(config), rank=rank, world=world)


def answer_of(data: Data, number: int) -> str:
    """The trained text of an example: its dataset and row."""
    example = data.everything[number]
    return data.tokenizer.decode([label for label in example.labels if label != -100]).removesuffix("<|im_end|>\n")


def seen_in(data: Data, epoch: int) -> list[str]:
    """What a rank trains in an epoch, as it comes out of the batches."""
    plan = data.plan
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    batches = [data.batch_of(micro) for number in steps for micro in plan.step(number)]
    return [answer_of(data, number) for batch in batches for number in batch.indices]


def expected(mix: dict[str, Any], seed: int) -> Counter[str]:
    """How often the mix has each row."""
    probs = [float(p) for p in mix["interleave_probs"].split(",")] if "interleave_probs" in mix else None
    of, rows = mixed_order(list(SIZES.values()), mix["mix_strategy"], probs, seed)
    names = list(SIZES)
    return Counter(f"{names[d]} {row}" for d, row in zip(of.tolist(), rows.tolist(), strict=True))


@pytest.mark.parametrize("seed", [42, 7])
@pytest.mark.parametrize("way", WAYS, ids=["plain", "packed", "balanced", "strict blocks"])
@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix["mix_strategy"])
def test_two_ranks_see_each_row_of_the_mix_once_an_epoch(
    keys: Run, mix: dict[str, Any], way: dict[str, Any], seed: int
) -> None:
    ranks = [loaded(keys(**mix, **way, seed=seed), rank, 2) for rank in (0, 1)]
    rows = expected(mix, seed)
    if mix["mix_strategy"] in ("concat", "interleave_once"):
        assert rows == Counter(f"{name} {row}" for name, size in SIZES.items() for row in range(size))
    orders = []
    for epoch in (0, 1):
        shares = [seen_in(data, epoch) for data in ranks]
        assert Counter(shares[0] + shares[1]) == rows
        assert min(map(len, shares)) > 0
        orders.append(shares[0])
    if mix["mix_strategy"] == "concat":  # of the few rows of the others two orders may well be one
        assert orders[0] != orders[1]
    assert [data.digest() for data in ranks] == [loaded(keys(**mix, **way, seed=seed)).digest()] * 2


def test_another_seed_is_another_order_and_the_same_rows(keys: Run) -> None:
    first, again, other = (loaded(keys(seed=seed)) for seed in (42, 42, 7))
    assert seen_in(first, 0) == seen_in(again, 0)
    assert seen_in(first, 0) != seen_in(other, 0)
    assert Counter(seen_in(first, 0)) == Counter(seen_in(other, 0))


def test_a_part_held_out_of_a_mix_is_trained_on_by_nobody(keys: Run) -> None:
    ranks = [loaded(keys(**MIXES[3], val_size=5), rank, 2) for rank in (0, 1)]
    held = [answer_of(ranks[0], number) for number in range(len(ranks[0].examples.train), len(ranks[0].everything))]
    trained = [text for data in ranks for text in seen_in(data, 0)]
    assert (len(held), len(trained)) == (5, 18)
    assert Counter(held + trained) == expected(MIXES[3], 42)


READ_SHARE = """
import json, sys
import torch
torch.set_num_threads(1)
from tests.trainkit.data.test_mix_views import loaded, seen_in
keys, rank = json.loads(sys.argv[1]), int(sys.argv[2])
data = loaded(keys, rank, 2)
print(json.dumps([data.digest(), [seen_in(data, epoch) for epoch in (0, 1)]]))
"""


def test_two_processes_that_begin_at_once_share_one_encoding_and_its_rows(keys: Run, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    mine = keys(**MIXES[3], packing=True, cutoff_len=96, per_device_train_batch_size=1, cache_path=str(tmp_path / "c"))
    with ThreadPoolExecutor(2) as pool:
        ran = list(pool.map(lambda rank: run_python(READ_SHARE, json.dumps(mine), rank), (0, 1)))
    assert [one.returncode for one in ran] == [0, 0], ran[0].stderr + ran[1].stderr
    (digest, first), (other, second) = (json.loads(one.stdout) for one in ran)
    assert digest == other == loaded(mine).digest()
    for epoch in (0, 1):
        assert Counter(first[epoch] + second[epoch]) == expected(MIXES[3], 42)
    assert len(list((tmp_path / "c").rglob("*.arrow"))) == 3
