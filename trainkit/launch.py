"""Starting one process a device: trainkit run, started again under torchrun, and what comes of its processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.errors import Interrupted, StoppedByUser, StoppedError, TunekitError, UsageError
from trainkit.place import OURS, is_launched, place_of

TRUE = ("1", "true", "y", "yes", "on")
PATIENCE_S = 15  # between the request to end and the kill, for processes whose partner is gone


@dataclass(frozen=True, slots=True)
class Layout:
    """Which processes are started: ``processes`` on this machine, ``nodes`` machines (least and most where elastic)."""

    processes: int
    nodes: str = "1"
    node_rank: int = 0
    address: str = "127.0.0.1"
    port: int | None = None
    rendezvous: str | None = None  # an id: elastic, the machines find each other at address:port
    max_restarts: int = 0

    @property
    def alone(self) -> bool:
        return self.processes == 1 and self.nodes == "1"


def launch_if_asked(file: str | Path | Mapping[str, Any] | None, words: Sequence[str]) -> int | None:
    """Train in several processes where the machine or the environment asks for it, and return the exit code; None where
    this process is to train by itself. Everything cheap is checked before any process is started."""
    if is_launched():
        return None
    from trainkit.start import checked

    config = checked(file, words)
    layout = layout_from(os.environ, visible_devices(use_cpu=config.loop.use_cpu), use_cpu=config.loop.use_cpu)
    if layout is None:
        return None
    return launch(layout, [*sys.argv[1:], *(["--debug"] if "--debug" in sys.orig_argv else [])])


def visible_devices(*, use_cpu: bool) -> int:
    """How many devices a run may use."""
    if use_cpu:
        return 0
    import torch

    return torch.cuda.device_count()


def layout_from(env: Mapping[str, str], devices: int, *, use_cpu: bool) -> Layout | None:
    """What the environment asks for; None where this process trains by itself.

    ``devices`` are the visible ones. Started anew are: several devices, several machines, NPROC_PER_NODE above 1, or
    anything under FORCE_TORCHRUN. Raises ``UsageError`` for variables that make no sense.
    """
    if is_launched(env):
        return None
    forced = any(env.get(name, "").casefold() in TRUE for name in ("FORCE_TORCHRUN", "USE_MCA", "USE_MEGATRON_BRIDGE"))
    nodes, own = _number(env, "NNODES", 1, least=1), 1 if use_cpu else max(devices, 1)
    processes = _number(env, "NPROC_PER_NODE", own, least=1)
    if not (forced or processes > 1 or nodes > 1 or env.get("RDZV_ID")):
        return None
    rendezvous = env.get("RDZV_ID") or None
    node_rank = _number(env, "NODE_RANK", 0, least=0)
    if node_rank >= nodes and not rendezvous:
        raise UsageError(
            f"NODE_RANK={node_rank}, and there are {nodes} machines (NNODES)",
            where="environment",
            mend="Count the machines from 0.",
        )
    several = nodes > 1 or rendezvous is not None
    if several and "MASTER_PORT" not in env:
        raise UsageError(
            "several machines need one address and port to meet at",
            where="environment",
            mend="Set MASTER_ADDR to the first machine and MASTER_PORT to a free port of it, on all of them.",
        )
    low, high = _number(env, "MIN_NNODES", nodes, least=1), _number(env, "MAX_NNODES", nodes, least=1)
    if rendezvous and low > high:
        raise UsageError(f"MIN_NNODES={low} is above MAX_NNODES={high}", where="environment")
    return Layout(
        processes=processes,
        nodes=f"{low}:{high}" if rendezvous and low != high else str(low if rendezvous else nodes),
        node_rank=node_rank,
        address=env.get("MASTER_ADDR", "127.0.0.1"),
        port=_number(env, "MASTER_PORT", None, least=1, most=65535),
        rendezvous=rendezvous,
        max_restarts=_number(env, "MAX_RESTARTS", 0, least=0),
    )


def _number(env: Mapping[str, str], name: str, default: Any, *, least: int, most: int = 2**31) -> Any:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not least <= int(text) <= most:
        raise UsageError(f"{name}={text} must be a whole number of {least} or more", where="environment")
    return int(text)


def torchrun_arguments(layout: Layout, program: Sequence[str]) -> list[str]:
    """The words after ``torchrun``, one list item each, whatever blanks a path holds."""
    words = [
        "--nproc-per-node",
        str(layout.processes),
        "--nnodes",
        layout.nodes,
        "--max-restarts",
        str(layout.max_restarts),
    ]
    port = layout.port or free_port()
    if layout.rendezvous:
        words += [
            "--rdzv-backend",
            "c10d",
            "--rdzv-id",
            layout.rendezvous,
            "--rdzv-endpoint",
            f"{layout.address}:{port}",
        ]
    else:
        words += ["--node-rank", str(layout.node_rank), "--master-addr", layout.address, "--master-port", str(port)]
    return [*words, "--no-python", *program]


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port(layout: Layout) -> None:
    """Raise ``UsageError`` where the port at which the processes are to meet is taken on this machine, the first."""
    if layout.port is None or layout.node_rank != 0 or layout.rendezvous:
        return  # of an elastic run nobody knows yet which machine is the first
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", layout.port))
        except OSError as error:
            raise UsageError(
                f"port {layout.port} cannot be used: {error.strerror or error}",
                where="MASTER_PORT",
                mend="Choose another MASTER_PORT, or leave it unset on a single machine: a free one is taken then.",
            ) from None


def launch(layout: Layout, arguments: Sequence[str], *, program: Sequence[str] = ("-m", "trainkit")) -> int:
    """Start ``python PROGRAM ARGUMENTS`` in the layout's processes, wait, and return the exit code of the design.

    What a process failed with is raised as the error that it was (rank and message); signals reach all processes.
    """
    check_port(layout)
    folder = Path(tempfile.mkdtemp(prefix="trainkit-launch-"))
    share = max(1, _usable_cores() // layout.processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
    os.environ[OURS] = str(folder)
    words = torchrun_arguments(layout, [sys.executable, *program, *arguments])
    try:
        with _forwarding(folder) as asked:
            codes = _torchrun(words)
        return _verdict(folder, codes, asked)
    finally:
        os.environ.pop(OURS, None)
        shutil.rmtree(folder, ignore_errors=True)


def _usable_cores() -> int:
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _torchrun(words: list[str]) -> dict[int, int]:
    """Run torchrun's own agent in this process; the exit codes of the ranks that failed, empty where none did."""
    import logging

    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, parse_args, run

    known = get_args_parser()._option_string_actions
    quiet = {"--signals-to-handle": "SIGQUIT", "--shutdown-timeout": str(PATIENCE_S), "--monitor-interval": "0.1"}
    extra = [word for option, value in quiet.items() if option in known for word in (option, value)]
    logging.getLogger("torch.distributed.elastic").setLevel(
        logging.CRITICAL
    )  # its table of failures is told better below
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"  # the others are ours to pass on
    try:
        run(parse_args([*extra, *words]))
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    return {}


@contextmanager
def _forwarding(folder: Path) -> Iterator[list[int]]:
    """Pass SIGINT and SIGTERM on to the processes, which finish their step and save; the list holds what was asked."""
    asked: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        asked.append(number)
        pids = [int(path.stem.partition("-")[2]) for path in folder.glob("pid-*")]
        if not pids:  # none has begun
            raise Interrupted
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _verdict(folder: Path, codes: Mapping[int, int], asked: Sequence[int]) -> int:
    """The exit code of a launch; raises the error that ended it."""
    told = sorted(
        (json.loads(path.read_text("utf-8")) for path in folder.glob("error-*")), key=lambda told: told["time"]
    )
    killed = {rank: -code for rank, code in codes.items() if code < 0}
    own = [t for t in told if not t["lost"]]  # not: "the others have gone"
    if own:
        _raise(own[0])
    if asked and (killed or codes):
        raise Interrupted
    if killed:
        rank, number = next(iter(killed.items()))
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        why = "; the system does that when memory runs out" if number == signal.SIGKILL else ""
        raise StoppedError(
            f"process {rank} was killed by {name}{why}",
            mend="Run the same command again to go on from the last checkpoint.",
        )
    if told:
        _raise(told[0])
    if codes:
        rank, code = next(iter(codes.items()))
        raise TunekitError(f"process {rank} ended with exit code {code}, and said nothing")
    return 0


def _raise(told: Mapping[str, Any]) -> None:
    if told["code"] == 130 and not told["what"]:
        raise Interrupted
    kinds: dict[int, type[TunekitError]] = {2: UsageError, 3: StoppedError, 130: StoppedByUser}
    kind = kinds.get(told["code"], TunekitError)
    of = "" if told["rank"] == 0 or told["code"] == 130 else f"process {told['rank']}: "
    error = kind(of + told["what"], where=told["where"], mend=told["mend"])
    error.exit_code = told["code"]
    raise error


@contextmanager
def as_one_of_many() -> Iterator[None]:
    """Around what a launched process does: it leaves its number for the launcher to pass signals to, and how it ended
    for the launcher to tell. Elsewhere, nothing."""
    folder = os.environ.get(OURS)
    if not folder or not is_launched():
        yield
        return
    place = place_of()
    here = Path(folder)
    end_with_parent()
    with suppress(OSError):
        (here / f"pid-{os.getpid()}").touch()
    try:
        yield
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:
            raise
        told = _told(error)
        with suppress(OSError):
            path = here / f".error-{place.rank}"
            path.write_text(json.dumps({"rank": place.rank, "time": time.time(), **told}), "utf-8")
            path.rename(here / f"error-{place.rank}")
        if "--debug" in sys.orig_argv:
            import traceback

            traceback.print_exception(error)
        # a stop that was asked for ends well for the agent: it would end the others, who are still saving, and count
        # a restart
        raise SystemExit(0 if isinstance(error, StoppedByUser) else told["code"]) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # all is done or told; the agent tidies up
            with suppress(ValueError):
                signal.signal(number, signal.SIG_IGN)


def _told(error: BaseException) -> dict[str, Any]:
    """What the launcher is to say of an error: code, text, and whether it only tells that the others are gone."""
    if isinstance(error, TunekitError):
        lost = isinstance(error, StoppedError) and error.what.startswith("process ")
        return {"code": error.exit_code, "what": error.what, "where": error.where, "mend": error.mend, "lost": lost}
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return {"code": 130, "what": "", "where": None, "mend": None, "lost": False}
    kind, text = type(error).__name__, str(error)
    if isinstance(error, SystemExit):
        return {
            "code": int(error.code) if isinstance(error.code, int) else 1,
            "what": text,
            "where": None,
            "mend": None,
            "lost": False,
        }
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "can't allocate memory" in text:
        return {"code": 3, "what": "out of memory", "where": None, "mend": None, "lost": False}
    gone = (
        "gloo",
        "Connection closed by peer",
        "Connection reset",
        "NCCL",
        "Broken pipe",
        "store->",
        "TCPStore",
        "socket",
    )
    lost = isinstance(error, RuntimeError | ConnectionError) and any(word in text for word in gone)
    what = "the other processes are gone" if lost else f"a fault of ours: {kind}: {text}"
    return {"code": 3 if lost else 4, "what": what, "where": None, "mend": "--debug shows where.", "lost": lost}


def end_with_parent() -> None:
    """Have this process asked to end (SIGTERM) when its launcher is killed; Linux alone can do that."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
