"""``benchmarks/gpu.py`` on a CPU, with models that are tiny: it runs, its sides train the same, its tables say what was found."""

import json
import sys

import pytest

from benchmarks import gpu, gpu_cells, gpu_table

TINY = {"shapes": ("tiny",), "lengths": (64,), "ladder_at": 64, "places": 128}


@pytest.fixture(autouse=True)
def _one_thread():
    torch = pytest.importorskip("torch", reason="needs the [train] extra")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cell(rung: str, method: str = "full") -> gpu_cells.Cell:
    return gpu_cells.Cell("tiny", method, 64, rung, 2, 1, False, "sdpa", "cpu")


def test_without_a_gpu_it_says_so_and_ends_with_2(monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 2
    assert "there is no NVIDIA GPU here" in capsys.readouterr().err


def test_the_whole_command_on_a_cpu(monkeypatch, capsys, tmp_path):
    """Checks, a run in this process instead of its own, the tables and the file."""
    monkeypatch.setattr(gpu, "attempt", gpu.one_run)
    kept = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--tiny", "--only", "full kept", "--steps", "1", "--json", str(kept)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    assert gpu.main() == 0
    found = json.loads(kept.read_text())
    assert [check["passed"] for check in found["checks"]] == [True] * 6
    assert found["runs"]["tiny-full-64-kept"]["tokens_per_second"] > 0
    assert "| resumed = not stopped, to the bit | passed | gone on from step 4 |" in capsys.readouterr().out


def test_every_side_has_the_same_first_loss():
    pytest.importorskip("peft", reason="needs the [train] extra")
    from benchmarks.gpu_sides import measure

    runs = [cell("eager"), cell("fused"), cell("trainer"), cell("trainer-packed"), cell("kept", "lora")]
    first = [measure(run)["losses"][0] for run in runs]
    assert first == pytest.approx([first[0]] * len(runs), rel=1e-3)


def test_a_wrong_mask_fails_the_check(monkeypatch):
    """Positions that never restart let packed examples see each other."""
    from benchmarks import gpu_checks, gpu_rows

    real = gpu_rows.micro_batches

    def wrong(*arguments, packed, **options):
        from dataclasses import replace

        import torch

        found = real(*arguments, packed=packed, **options)
        if packed:
            found = [replace(b, position_ids=torch.arange(b.input_ids.shape[1]).expand_as(b.input_ids)) for b in found]
        return found

    assert gpu_checks.packed("cpu", "sdpa", "tiny", bf16=False).passed
    monkeypatch.setattr(gpu_checks, "micro_batches", wrong)
    assert not gpu_checks.packed("cpu", "sdpa", "tiny", bf16=False).passed


def test_runs_are_chosen_by_all_words_of_a_group():
    names = [c.name for c in gpu_cells.cells("1.5B full 4096 kept,7B lora 2048 trl", steps=1, attention="sdpa")]
    assert names == ["1.5B-full-4096-kept", "7B-lora-2048-trl"]
    assert len(list(gpu_cells.cells("", steps=1, attention="sdpa", **TINY))) == 2 * len(gpu_cells.RUNGS)


def test_what_cannot_fit_is_told_beforehand():
    """1.54 billion parameters at 16 bytes are 23 GiB, at 2 bytes 2.9."""
    full, lora = (
        gpu_cells.Cell("1.5B", method, 2048, "kept", 8, 1, False, "sdpa", "cuda") for method in ("full", "lora")
    )
    assert gpu_cells.why_not(full, 16 << 30, {}) == "weights, gradients and optimizer take 23 GiB, the device has 16"
    assert gpu_cells.why_not(lora, 16 << 30, {}) is None
    assert gpu_cells.why_not(cell("trl"), 16 << 30, {"trl": False}) == "trl is not installed"


@pytest.mark.parametrize("shape", ["large", "small", "tiny"])
def test_parameters_are_counted_as_transformers_counts_them(shape):
    import torch
    from transformers import Qwen2ForCausalLM

    from benchmarks.models import config_of, parameters_of

    with torch.device("meta"):
        model = Qwen2ForCausalLM(config_of(shape))
    assert parameters_of(shape) == sum(p.numel() for p in model.parameters())


def test_the_table_compares_with_the_top_of_the_ladder():
    """300 tokens/s against 200, and 98.9 of 989 TFLOP/s."""
    common = {"shape": "7B", "method": "lora", "length": 4096, "pure": False}
    numbers = {"flops_per_second": 98.9e12, "peak": 3 << 30, "rows": 4, "losses": [2.0]}
    runs = {
        "a": {**common, **numbers, "rung": "kept", "tokens_per_second": 300.0},
        "b": {**common, **numbers, "rung": "trl", "tokens_per_second": 200.0},
        "c": {**common, "rung": "trainer", "skipped": "out of memory"},
    }
    lines = gpu_table.table(runs)[2:]
    assert lines[0].endswith("| + nothing recomputed | 300 | 10.0% | 12.5% | 3.0 GiB | 4 |  |")
    assert "not measured: out of memory" in lines[1]
    assert lines[2].endswith("| 4 | **1.50×** |")
