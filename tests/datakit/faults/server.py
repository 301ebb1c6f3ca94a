"""The fault server: in a thread for tests, or alone for benchmarks (``python -m tests.datakit.faults.server --help``)."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.datakit.faults.ledger import Ledger
from tests.datakit.faults.rules import fingerprint
from tests.datakit.faults.scenario import Scenario, ScenarioError, load, scenario_names
from tests.datakit.faults.serving import Serving

T = TypeVar("T")
BACKLOG = 4096  # a burst of connects must not be refused by the kernel, whatever the scenario does to it afterwards


class FaultServer:
    """A server in a thread of its own, for as long as the block lasts.

        with FaultServer("cap20", latency_s=0.2) as server:
            client = OpenAI(base_url=server.url, api_key="any")
            ...
            assert server.stats.by_status[429] <= 10

    ``scenario`` is a name, a file, the data of a scenario or a ``Scenario``; ``changes`` go on top of it. Port 0 takes
    any free one. Without ``keep_bodies`` the statistics hold no request bodies. Raises ``ScenarioError`` for a scenario
    with faults and ``OSError`` for a port that is taken.
    """

    def __init__(
        self,
        scenario: str | Path | Mapping[str, Any] | Scenario = "honest",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keep_bodies: bool = True,
        **changes: Any,
    ) -> None:
        self.scenario = load(scenario, **changes)
        self._host, self._port, self._keep_bodies = host, port, keep_bodies
        self._ready = threading.Event()
        self._fault: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._serving: Serving
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._run, name="fault-server", daemon=True)

    def __enter__(self) -> FaultServer:
        self._thread.start()
        self._ready.wait()
        if self._fault:
            raise self._fault
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def root(self) -> str:
        """The address without a path; /_stats and /_reset lie there."""
        return f"http://{self._host}:{self._port}"

    @property
    def url(self) -> str:
        """The base URL for clients of OpenAI's API."""
        return f"{self.root}/v1"

    @property
    def zhipu_url(self) -> str:
        """The base URL for clients of Zhipu's API."""
        return f"{self.root}/api/paas/v4"

    @property
    def stats(self) -> Ledger:
        """What was seen since the start or the last reset."""
        return self._serving.ledger

    def reset(self) -> None:
        """Forget all: statistics, counters, caps, files, batches."""
        self._call(self._serving.reset)

    def use(self, scenario: str | Path | Mapping[str, Any] | Scenario, **changes: Any) -> None:
        """Go on with another scenario, its counters at zero; the statistics, files and batches stay."""
        self.scenario = load(scenario, **changes)
        self._call(lambda: self._serving.use(self.scenario))

    def _call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as fault:  # noqa: BLE001 - handed to the thread that waits for the start
            self._fault = fault
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._serving = Serving(self.scenario, self._loop, keep_bodies=self._keep_bodies)
        server = await self._loop.create_server(self._serving.connection, self._host, self._port, backlog=BACKLOG)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for connection in list(self._serving.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


def key_hash(key: str) -> str:
    """How the statistics call a key that is sent as ``Authorization: Bearer KEY``."""
    return fingerprint(f"Bearer {key}")


async def _alone(scenario: Scenario, host: str, port: int, keep_bodies: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = Serving(scenario, loop, keep_bodies=keep_bodies)
    server = await loop.create_server(serving.connection, host, port, backlog=BACKLOG)
    port = server.sockets[0].getsockname()[1]
    print(f"http://{host}:{port}/v1 {scenario.name}", flush=True)
    await stop.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: serve one scenario until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.datakit.faults.server", description=__doc__)
    parser.add_argument("--scenario", default="honest", help="a name (see --list) or a YAML file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8123, help="0 takes any free one; the first line printed names it")
    parser.add_argument("--latency", type=float, help="seconds to each answer, instead of the scenario's")
    parser.add_argument("--seed", type=int, help="instead of the scenario's")
    parser.add_argument("--keep-bodies", action="store_true", help="keep the bodies of requests in memory")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    options = parser.parse_args(arguments)
    if options.list:
        for name in scenario_names():
            print(f"{name:18} {load(name).about}")
        return 0
    given = {"latency_s": options.latency, "seed": options.seed}
    try:
        scenario = load(options.scenario, **{name: value for name, value in given.items() if value is not None})
    except ScenarioError as fault:
        print(fault, file=sys.stderr)
        return 2
    try:
        asyncio.run(_alone(scenario, options.host, options.port, options.keep_bodies))
    except OSError as fault:
        print(f"port {options.port}: {fault.strerror}. Give another --port; 0 takes any free one.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
