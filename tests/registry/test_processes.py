"""What every worker process does first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from registry.processes import follow_parent
from tests.conftest import run_python


def worker(told):
    follow_parent()
    os.kill(os.getpid(), signal.SIGINT)
    told.send("still here")
    time.sleep(60)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_is_left_to_the_parent():
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=worker, args=(theirs,), daemon=True)
    process.start()
    assert ours.poll(30)
    assert ours.recv() == "still here"
    process.kill()
    process.join()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_it_ends_with_its_parent():
    code = (
        "import multiprocessing, os\n"
        "from tests.registry.test_processes import worker\n"
        "if __name__ == '__main__':\n"
        "    ours, theirs = multiprocessing.Pipe()\n"
        "    process = multiprocessing.get_context('fork').Process(target=worker, args=(theirs,))\n"
        "    process.start()\n"
        "    ours.recv()\n"
        "    print(process.pid, flush=True)\n"
        "    os._exit(0)\n"
    )
    pid = int(run_python(code).stdout)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if has_ended(pid):
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its parent")


def has_ended(pid):
    """Whether a process is gone, or only waits for somebody to ask what became of it."""
    try:
        os.kill(pid, 0)
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # no /proc here, or it ended just now
        return False
