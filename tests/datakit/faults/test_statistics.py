"""The fault server's statistics tell what happened, and it runs in a thread, beside others, and alone."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.datakit.faults.client import ask, ask_at_once, send
from tests.datakit.faults.server import FaultServer, key_hash, main


def test_the_statistics_tell_who_asked_what_when_and_what_came_of_it():
    with FaultServer({"rules": [{"when": {"contains": "bad"}, "do": {"action": "status", "status": 400}}]}) as server:
        ask(server, "good one", key="first")
        ask(server, "bad one", key="second")
        ask(server, "good one", key="first")
        seen = server.stats.requests
        assert [s.status for s in seen] == [200, 400, 200]
        assert [s.answered for s in seen] == [True, False, True]
        assert [s.action for s in seen] == ["answer", "status", "answer"]
        assert [s.key for s in seen] == [key_hash("first"), key_hash("second"), key_hash("first")]
        assert 0 <= seen[0].at_s <= (seen[0].done_s or 0) <= seen[1].at_s
        assert json.loads(seen[1].body)["messages"][0]["content"] == "bad one"
        assert server.stats.by_status == {200: 2, 400: 1}
        assert server.stats.answered_twice == {seen[0].content: 2}
        assert "first" not in repr(seen)
        told = send(server, "GET", "/_stats?each").json
        assert (told["requests"], told["by_status"], told["answered_twice"]) == (3, {"200": 2, "400": 1}, 1)
        assert (told["gone"], told["pending"], told["peak_concurrency"]) == (0, 0, 1)
        assert [each["status"] for each in told["each"]] == [200, 400, 200]
        assert send(server, "POST", "/_reset").status == 200
        assert server.stats.requests == []


def test_the_most_requests_at_a_time_are_counted():
    with FaultServer("honest", latency_s=1.0) as server:
        ask_at_once(server, 12)
        assert server.stats.peak_concurrency == 12
        assert server.stats.pending == 0


def test_latency_is_kept():
    with FaultServer("honest", latency_s=0.2) as server:
        assert ask(server).seconds >= 0.2
    with FaultServer("honest", latency_s={"uniform": [0.1, 0.2]}) as server:
        ask_at_once(server, 10)
        took = [(seen.done_s or 0) - seen.at_s for seen in server.stats.requests]
        assert min(took) >= 0.1
        assert len({round(seconds, 3) for seconds in took}) > 1


def test_a_server_can_go_on_with_another_scenario():
    with FaultServer("all_fail_400") as server:
        assert ask(server).status == 400
        server.use("honest")
        assert ask(server).status == 200
        assert server.stats.by_status == {400: 1, 200: 1}


def test_two_servers_do_not_share_a_port():
    with FaultServer() as server, pytest.raises(OSError, match="in use"), FaultServer(port=server.port):
        pass


def test_it_runs_alone_until_it_is_stopped():
    command = [sys.executable, "-m", "tests.datakit.faults.server", "--scenario", "honest", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        url, name = process.stdout.readline().split()
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
        connection.request("GET", "/_stats")
        assert (name, json.loads(connection.getresponse().read())["requests"]) == ("honest", 0)
        connection.close()
        process.terminate()
        assert process.wait(10) == 0


def test_the_command_line_lists_scenarios_and_refuses_unknown_ones(capsys):
    assert main(["--list"]) == 0
    assert "cap20 " in capsys.readouterr().out
    assert main(["--scenario", "honset"]) == 2
    assert "Near: honest" in capsys.readouterr().err
