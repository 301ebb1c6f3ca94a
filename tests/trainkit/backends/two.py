"""Runs functions in two processes that talk through gloo; the pair is started once and serves many tests."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

PRELOAD = ["trainkit.backends.ddp", "trainkit.backends.fsdp2", "peft", "transformers.models.qwen2.modeling_qwen2"]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What torchrun would tell a process."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def _serve(pipe: Connection, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    import torch

    torch.set_num_threads(1)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        function, arguments = task
        try:
            pipe.send((True, function(*arguments)))
        except BaseException:  # noqa: BLE001  # the test that asked is to see it
            pipe.send((False, traceback.format_exc()))


class Pair:
    """``pair(function, *arguments)``: what the function returns in each process, in order of rank."""

    def __init__(self, world_size: int = 2) -> None:
        self.world_size = world_size
        self._workers: list[tuple[Any, Connection]] = []

    def start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        port = free_port()
        for rank in range(self.world_size):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(there, environment(rank, self.world_size, port)), daemon=True
            )
            process.start()
            there.close()
            self._workers.append((process, here))

    def __call__(self, function: Callable[..., Any], *arguments: Any, timeout_s: float = 120) -> list[Any]:
        """Raises ``AssertionError`` with the traceback of the first process that fails; the pair is then begun anew."""
        if not self._workers:
            self.start()
        for _, pipe in self._workers:
            pipe.send((function, arguments))
        results = []
        for rank, (_, pipe) in enumerate(self._workers):
            try:
                done, result = pipe.recv() if pipe.poll(timeout_s) else (False, f"no answer in {timeout_s:.0f} s")
            except EOFError:
                done, result = False, "the process has ended"
            if not done:
                self.stop()
                raise AssertionError(f"rank {rank}: {result}")
            results.append(result)
        return results

    def stop(self) -> None:
        for process, pipe in self._workers:
            process.kill()
            process.join()
            pipe.close()
        self._workers = []


@contextmanager
def pair(world_size: int = 2) -> Iterator[Pair]:
    """A pair for the time of a block."""
    made = Pair(world_size)
    try:
        yield made
    finally:
        made.stop()
