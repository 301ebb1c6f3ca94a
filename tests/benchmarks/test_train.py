"""The sides of ``benchmarks/train.py`` train the same: same rows, same order, same losses."""

from pathlib import Path

import pytest

from benchmarks import train
from benchmarks.train_job import Job, given, prepare

STEPS = 3


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    torch = pytest.importorskip("torch", reason="needs the [train] extra")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(before)


def job_of(stage: str, method: str) -> Job:
    return Job(stage, method, "tiny", 2, 2, 64, None, 1.0)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``made(stage, method)``: the folder of a tiny job."""
    monkeypatch.setattr("benchmarks.train_job.VOCABULARY", 400)

    def make(stage: str, method: str, **changes) -> Path:
        told = {"steps": STEPS, "bf16": False, "data": None, "tokenizer": None, **changes}
        prepare(tmp_path, job_of(stage, method), **told)
        return tmp_path

    return make


@pytest.mark.parametrize(("stage", "method"), [("sft", "full"), ("sft", "lora"), ("dpo", "full"), ("pt", "full")])
def test_the_sides_have_the_same_losses_at_every_step(made, stage, method):
    pytest.importorskip("peft", reason="needs the [train] extra")
    folder = made(stage, method)
    cells = []
    for side in train.sides_of("fp32", ",".join(train.SIDES)):
        found = train.measurer(side)(folder)
        assert len(found.losses) == STEPS
        assert found.peak > 0
        cells.append(train.cell_of(side, [found.as_json()], 1, "wall"))
    train.check_losses(job_of(stage, method), cells)
    assert {"trainkit", "trainer", "kept"} <= {cell.side for cell in cells}


def test_sides_that_train_something_else_end_the_run(made):
    one = train.Cell("trainkit", 1.0, 0.0, 1.0, 1, [2.0, 1.0])
    other = train.Cell("kept", 1.0, 0.0, 1.0, 1, [2.0, 1.001])
    with pytest.raises(SystemExit, match=r"nothing recomputed differ from trainkit.s by 1\.0e-03"):
        train.check_losses(job_of("sft", "full"), [one, other])


def test_the_floors_go_by_the_quicker_trainer():
    """3,000 tokens/s against 1,000 and 1,500: twice as fast as the quicker; half as much memory as that one."""
    cells = [
        train.Cell("trainkit", 1.0, 0.0, 3000.0, 50, []),
        train.Cell("trainer", 3.0, 0.0, 1000.0, 60, []),
        train.Cell("kept", 2.0, 0.0, 1500.0, 100, []),
        train.Cell("trl", 0.5, 0.0, 6000.0, 10, []),
    ]
    met = Job("sft", "full", "large", 4, 2, 1024, 2.0, 0.5)
    missed = Job("sft", "full", "large", 4, 2, 1024, 2.1, 0.5)
    assert train.table(met, "fp32", cells)[0].endswith("| 2.0×, memory 0.5× | met |")
    assert train.table(missed, "fp32", cells)[0].endswith("| 2.1×, memory 0.5× | **missed** |")


def test_rows_of_pairs_are_given_as_chosen_and_rejected(made):
    job = given(made("dpo", "full"))
    assert len(job.pairs) == 4 * STEPS
    assert all(pair["chosen"]["labels"][0] == -100 and pair["chosen"] != pair["rejected"] for pair in job.pairs)
