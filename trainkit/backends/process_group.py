"""The processes of a run: which of them this one is, how they exchange numbers and objects, how they wait for one."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from registry.errors import StoppedByUser, StoppedError, UsageError
from trainkit.place import Place, place_of

HEARTBEAT_S = 2.0  # between two signs of life of the process that the others wait for
SILENCE_S = 600.0  # without one it is taken for dead; long, because a library may hold the interpreter for minutes
POLL_S = 0.1


def device_for(place: Place, *, use_cpu: bool) -> torch.device:
    """This process's device. Raises ``UsageError`` where there are more processes than devices on a machine."""
    if use_cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if place.local_rank >= count:
        raise UsageError(
            f"{place.local_world_size} processes on this machine, and {count} devices",
            where="NPROC_PER_NODE",
            mend=f"Start at most {count}, or set use_cpu: true.",
        )
    device = torch.device("cuda", place.local_rank)
    torch.cuda.set_device(device)
    return device


class Group:
    """The processes of a run, as one of them sees the others; alone, nothing is exchanged.

    Tensors on a device go through the default group (``cpu:gloo,cuda:nccl``), plain numbers and objects through a
    second one by the CPU, so that they never wait for a device. ``timeout_s`` is for one exchange; ``one_first`` waits
    without a limit.
    """

    def __init__(
        self, place: Place | None = None, *, device: torch.device, timeout_s: int = 1800, backend: str | None = None
    ):
        self.place = place or place_of(os.environ)
        self.rank, self.world_size = self.place.rank, self.place.world_size
        self.device = device
        self._turns = 0
        self._timeout = timedelta(seconds=timeout_s)
        self._backend = backend or ("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        self._store: dist.Store | None = None
        self._control: dist.ProcessGroup | None = None
        if self.world_size > 1:
            self.start()

    def start(self) -> None:
        """Join the others; also alone, for libraries that need a group in any case. Once."""
        if self._control is not None:
            return
        if dist.is_initialized():  # whoever runs us has joined already
            self._store = dist.distributed_c10d._get_default_store()
        else:
            try:
                self._store = self._rendezvous()
            except (dist.DistNetworkError, dist.DistStoreError) as error:
                raise UsageError(
                    f"the other processes are not found: {str(error).splitlines()[0]}",
                    where=f"MASTER_ADDR={os.environ.get('MASTER_ADDR')} MASTER_PORT={os.environ.get('MASTER_PORT')}",
                    mend="Name the first machine and a free port of it, the same on all machines.",
                ) from None
            dist.init_process_group(
                self._backend, store=self._store, rank=self.rank, world_size=self.world_size, timeout=self._timeout
            )
        self._control = dist.new_group(backend="gloo", timeout=self._timeout)

    def _rendezvous(self) -> dist.Store:
        if "MASTER_PORT" not in os.environ and self.world_size == 1:
            return dist.HashStore()
        found = dist.rendezvous("env://", self.rank, self.world_size, timeout=self._timeout)
        return dist.PrefixStore("tunekit", next(found)[0])

    def close(self) -> None:
        """Leave the group, after everybody has come this far. On the way out with an error nobody is waited for: the
        others may hang in an exchange that this process will never join, and end when it has gone."""
        if self._control is None:
            return
        error = sys.exc_info()[1]
        if error is None or isinstance(error, StoppedByUser):  # a stop is everybody's, once rank 0 has saved
            with suppress(RuntimeError):
                self.barrier()
            if dist.is_initialized():
                dist.destroy_process_group()
        self._control = self._store = None

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, a new tensor on the same device."""
        if self.world_size == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value

    def sum_numbers(self, values: Sequence[float]) -> list[float]:
        """The sums over all ranks of plain numbers, in float64."""
        if self.world_size == 1:
            return [float(value) for value in values]
        table = torch.tensor(list(values), dtype=torch.float64)
        dist.all_reduce(table, group=self._control)
        return table.tolist()

    def share(self, value: Any) -> Any:
        """Rank 0's object, on every rank. It is pickled between processes of one run, never read from a file."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def gather(self, value: Any) -> list[Any] | None:
        """Every rank's object, in order, on rank 0; None elsewhere."""
        if self.world_size == 1:
            return [value]
        found: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(value, found, dst=0, group=self._control)
        return found

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.world_size > 1:
            dist.barrier(group=self._control)

    @contextmanager
    def one_first(self, what: str, *, each_node: bool = False) -> Iterator[None]:
        """One process runs the block, then all others do, at once: the first leaves in a cache what they read.

        They wait for as long as it works, without a time-out; raises ``StoppedError`` where it failed or died.
        ``each_node``: one of every machine goes first, where the machines share no disk. ``what`` is said in errors.
        """
        self._turns += 1
        if self.world_size == 1:
            yield
            return
        first = self.rank - self.place.local_rank if each_node else 0
        key = f"turn-{self._turns}-{first}"
        if self.rank != first:
            self._wait_for(key, first, what)
            yield
            return
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(key, stop), daemon=True)
        beat.start()
        try:
            yield
        except BaseException:
            self._tell(key, "failed")
            raise
        finally:
            stop.set()
            beat.join()
        self._tell(key, "done")

    def _tell(self, key: str, word: str) -> None:
        assert self._store is not None
        self._store.set(key, word)

    def _beat(self, key: str, stop: threading.Event) -> None:
        assert self._store is not None
        while not stop.wait(HEARTBEAT_S):
            try:
                self._store.add(f"{key}-beat", 1)
            except RuntimeError:  # the store is gone, and with it whoever waits
                return

    def _wait_for(self, key: str, first: int, what: str) -> None:
        assert self._store is not None
        seen, since = -1, time.monotonic()
        while True:
            try:
                if self._store.check([key]):
                    break
                beats = self._store.add(f"{key}-beat", 0)
            except RuntimeError:
                raise StoppedError(f"process {first} was lost while {what}") from None
            if beats != seen:
                seen, since = beats, time.monotonic()
            elif time.monotonic() - since > SILENCE_S:
                raise StoppedError(f"process {first} has given no sign of life for {SILENCE_S:.0f} s while {what}")
            time.sleep(POLL_S)
        if self._store.get(key) != b"done":
            raise StoppedError(f"process {first} failed while {what}")
