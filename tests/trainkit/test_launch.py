"""Several processes from one command: which are started, how they end, and what is said of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from registry.errors import StoppedByUser, StoppedError, TunekitError, UsageError
from trainkit.launch import Layout, check_port, launch, layout_from, torchrun_arguments

RANKS = str(Path(__file__).with_name("ranks.py"))


@pytest.mark.parametrize(
    ("env", "devices", "use_cpu", "processes"),
    [
        ({}, 0, False, None),
        ({}, 1, False, None),
        ({}, 4, False, 4),
        ({}, 4, True, None),
        ({"FORCE_TORCHRUN": "1"}, 0, True, 1),
        ({"FORCE_TORCHRUN": "0"}, 1, False, None),
        ({"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2"}, 0, True, 2),
        ({"NPROC_PER_NODE": "2"}, 0, False, 2),
        ({"NPROC_PER_NODE": "1"}, 4, False, None),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "FORCE_TORCHRUN": "1"}, 4, False, None),
    ],
)
def test_how_many_processes(env: dict[str, str], devices: int, use_cpu: bool, processes: int | None) -> None:
    layout = layout_from(env, devices, use_cpu=use_cpu)
    assert (layout and layout.processes) == processes


def test_several_machines() -> None:
    env = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    layout = layout_from(env, 8, use_cpu=False)
    assert layout == Layout(processes=8, nodes="2", node_rank=1, address="10.0.0.1", port=29500)
    words = torchrun_arguments(layout, ["python", "-m", "trainkit", "run", "my config.yaml"])
    assert words[-6:] == ["--no-python", "python", "-m", "trainkit", "run", "my config.yaml"]
    told = dict(zip(words[:-6:2], words[1:-6:2], strict=True))
    assert told == {
        "--nproc-per-node": "8", "--nnodes": "2", "--max-restarts": "0", "--node-rank": "1", "--master-addr": "10.0.0.1",
        "--master-port": "29500",
    }  # fmt: skip


def test_elastic_sizes() -> None:
    env = {
        "RDZV_ID": "job", "MIN_NNODES": "1", "MAX_NNODES": "4", "MAX_RESTARTS": "3", "MASTER_ADDR": "head",
        "MASTER_PORT": "29500",
    }  # fmt: skip
    layout = layout_from(env, 8, use_cpu=False)
    assert layout is not None
    words = torchrun_arguments(layout, ["x"])
    told = dict(zip(words[:-2:2], words[1:-2:2], strict=True))
    assert told == {
        "--nproc-per-node": "8", "--nnodes": "1:4", "--max-restarts": "3", "--rdzv-backend": "c10d", "--rdzv-id": "job",
        "--rdzv-endpoint": "head:29500",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"NNODES": "2"}, "MASTER_PORT"),
        ({"NNODES": "2", "NODE_RANK": "2", "MASTER_PORT": "1"}, "NODE_RANK=2"),
        ({"NPROC_PER_NODE": "gpu"}, "NPROC_PER_NODE=gpu"),
        ({"NPROC_PER_NODE": "0"}, "NPROC_PER_NODE=0"),
        ({"RDZV_ID": "a", "MASTER_PORT": "1", "MIN_NNODES": "3", "MAX_NNODES": "2"}, "MIN_NNODES=3"),
        ({"NPROC_PER_NODE": "2", "MASTER_PORT": "99999"}, "MASTER_PORT=99999"),
    ],
)
def test_variables_that_make_no_sense(env: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError) as found:
        layout_from(env, 1, use_cpu=False)
    assert told in str(found.value)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} cannot be used"):
            check_port(Layout(processes=2, port=port))
    check_port(Layout(processes=2, port=port))


def run(scenario: str, folder: Path, *words: str) -> int:
    return launch(Layout(processes=2), [scenario, str(folder), *words], program=(RANKS,))


def test_all_processes_run_with_the_words_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run("well", tmp_path, "a b", "c=1") == 0
    assert [json.loads((tmp_path / f"began-{rank}").read_text()) for rank in (0, 1)] == [[2, ["a b", "c=1"], "1"]] * 2


def test_the_error_of_the_process_that_failed_is_raised(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError) as found:
        run("rank 1 raises", tmp_path)
    assert str(found.value) == "adapter: process 1: the adapter is of another base\n  Choose another."
    assert found.value.exit_code == 2
    assert time.monotonic() - began < 30  # the other would have slept for a minute


def test_a_fault_of_ours_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(TunekitError, match="process 1: a fault of ours: KeyError: 'lost'") as found:
        run("rank 1 has a fault of ours", tmp_path)
    assert found.value.exit_code == 4


def test_a_killed_process_ends_the_run_and_not_in_a_hang(tmp_path: Path) -> None:
    with pytest.raises(
        StoppedError, match="process 1 was killed by SIGKILL; the system does that when memory runs out"
    ):
        run("rank 1 is killed in an exchange", tmp_path)


def test_a_signal_reaches_all_and_all_may_save(tmp_path: Path) -> None:
    def stop() -> None:
        while not all((tmp_path / f"ready-{rank}").exists() for rank in (0, 1)):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(StoppedByUser, match="checkpoint-3 is saved") as found:
        run("stopped", tmp_path)
    assert found.value.exit_code == 130
    assert all((tmp_path / f"saved-{rank}").exists() for rank in (0, 1))
    assert signal.getsignal(signal.SIGTERM) is before
