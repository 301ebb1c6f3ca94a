"""Scenario files are checked when they are loaded, and each of those shipped does what its first line says."""

from __future__ import annotations

import json

import pytest

from tests.datakit.faults.actions import ACTIONS
from tests.datakit.faults.bodies import zhipu_codes
from tests.datakit.faults.client import ask, connect, send
from tests.datakit.faults.scenario import FOLDER, Scenario, ScenarioError, When, load, scenario_names
from tests.datakit.faults.server import FaultServer

PAIRS = 'Write 2 pairs. Answer with JSON: {"pairs": [{"question": "...", "answer": "..."}]}'


def fault_of(data) -> str:
    with pytest.raises(ScenarioError) as raised:
        load(data)
    return str(raised.value)


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_loads_and_says_what_it_is_for(name: str):
    scenario = load(name)
    assert scenario.name == name
    assert scenario.about


def test_the_readme_names_every_scenario_and_action():
    told = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in scenario_names() if f"| `{name}` | {load(name).about} |" not in told] == []
    assert [name for name in ACTIONS if f"`{name}`" not in told] == []


def test_an_unknown_key_is_named_with_the_one_that_was_meant():
    assert "latencys_s: unknown. Known: name, about" in fault_of({"latencys_s": 1})
    assert 'Did you mean "latency_s"?' in fault_of({"latencys_s": 1})
    fault = fault_of({"rules": [{"do": "cut"}, {"when": {"shares": 0.2}, "do": "cut"}]})
    assert "rules[1]: when: shares: unknown." in fault
    assert 'Did you mean "share"?' in fault


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"rules": [{"do": "ratelimit"}]}, 'Did you mean "rate_limit"?'),
        (
            {"rules": [{"do": {"action": "cut", "were": "body"}}]},
            'do: cut: were: unknown. Known: where, how. Did you mean "where"?',
        ),
        ({"rules": [{"do": {"action": "cut", "where": "tail"}}]}, "where: 'tail' is none of: before, header, body."),
        ({"rules": [{"do": {"action": "status"}}]}, "do: status: status is missing."),
        ({"rules": [{"do": {"action": "status", "status": "500"}}]}, "'500' is none of: int."),
        ({"rules": [{"do": {"action": "zhipu", "code": "9999"}}]}, "'9999' is no code."),
        ({"rules": [{"do": []}]}, "no action is given."),
        ({"rules": [{"when": {"first": 3}}]}, "rules[0]: do is missing."),
        ({"rules": [{"when": {"share": "half"}, "do": "cut"}]}, "share: 'half' is none of: float or null."),
        ({"rules": {"do": "cut"}}, "rules: a list is wanted"),
        ({"caps": [{"per_s": 1.0}]}, "caps[0]: limit is missing."),
        ({"caps": [{"limit": 1, "kind": "slippery"}]}, "'slippery' is none of: fixed, sliding, bucket."),
        ({"latency_s": {"normal": [1, 2]}}, "is neither seconds,"),
        ({"latency_s": -1}, "is neither seconds,"),
        ({"batch": {"ends": "late"}}, "'late' is none of: completed, failed, expired."),
        ({"concurrency": True}, "concurrency: True is none of: int or null."),
        ({"batch": 3}, "batch: a mapping is wanted, not 3."),
    ],
)
def test_each_fault_of_a_scenario_is_told(data, told: str):
    assert told in fault_of(data)


def test_all_faults_are_told_at_once():
    assert len(fault_of({"sead": 1, "rules": [{"do": "ratelimit"}], "caps": [{}]}).splitlines()) == 3


def test_a_file_of_your_own_is_loaded_by_its_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("latency_s: 0.5\nrules:\n  - do: quota\n", encoding="utf-8")
    scenario = load(path, seed=3)
    assert (scenario.name, scenario.seed, scenario.rules[0].do[0].name) == ("mine", 3, "quota")
    path.write_text("rules: [", encoding="utf-8")
    assert "mine.yaml: no YAML" in fault_of(path)
    assert "nowhere.yaml: no such scenario or file." in fault_of(tmp_path / "nowhere.yaml")


def test_changes_go_on_top():
    assert load("latency1s", latency_s=0).latency_s.values == (0.0,)
    assert load(load("cap20"), retry_after="none").retry_after == "none"
    assert load({}) == Scenario(name="honest")


def test_zhipus_codes_all_have_a_status_and_a_message():
    assert {"1113", "1301", "1302", "1303", "1304", "1305", "1308", "1000", "1004", "1210", "1215"} <= set(
        zhipu_codes()
    )
    assert all(400 <= told["status"] < 600 and told["message"] for told in zhipu_codes().values())


# what rules look at


def statuses(data, count: int, **options) -> list[int]:
    with FaultServer(data) as server:
        connection = connect(server)
        return [ask(server, str(i), on=connection, **options).status for i in range(count)]


def rule(**when):
    return {"rules": [{"when": when, "do": {"action": "status", "status": 500}}]}


def test_rules_count():
    assert statuses(rule(first=2), 4) == [500, 500, 200, 200]
    assert statuses(rule(after=2), 4) == [200, 200, 500, 500]
    assert statuses(rule(every=2), 5) == [200, 500, 200, 500, 200]


def test_rules_look_at_text_model_key_and_room():
    with FaultServer(rule(contains="poison")) as server:
        assert ask(server, "a poisoned row").status == 500
        assert ask(server, "a row").status == 200
    with FaultServer(rule(model="large")) as server:
        assert ask(server, model="large").status == 500
        assert ask(server, model="small").status == 200
    with FaultServer(rule(key="bad-key")) as server:
        assert ask(server, key="bad-key").status == 500
        assert ask(server, key="good-key").status == 200
    with FaultServer(rule(max_tokens_below=100)) as server:
        assert ask(server, max_tokens=99).status == 500
        assert ask(server, max_tokens=100).status == 200


def test_rules_know_the_time_since_the_first_request():
    with FaultServer(rule(from_s=0.2, until_s=0.5)) as server:
        got = []
        while not got or got[-1][0] < 0.7:
            status = ask(server).status
            seen = server.stats.requests[-1]
            got.append((seen.at_s - server.stats.requests[0].at_s, status))
        assert {status for at, status in got if 0.2 <= at < 0.5} == {500}
        assert {status for at, status in got if not 0.19 <= at < 0.51} == {200}


def test_a_share_is_about_met_and_the_same_in_any_order():
    data = {"seed": 1, **rule(share=0.2)}
    with FaultServer(data) as server:
        connection = connect(server)
        forth = {i: ask(server, str(i), on=connection).status for i in range(400)}
    with FaultServer(data) as server:
        connection = connect(server)
        back = {i: ask(server, str(i), on=connection).status for i in reversed(range(400))}
    assert forth == back
    assert 50 <= list(forth.values()).count(500) <= 110
    with FaultServer(data, seed=2) as server:
        connection = connect(server)
        assert forth != {i: ask(server, str(i), on=connection).status for i in range(400)}


def test_a_share_is_drawn_anew_when_the_same_is_asked_again():
    with FaultServer(rule(share=0.5)) as server:
        connection = connect(server)
        assert {ask(server, "the same", on=connection).status for _ in range(20)} == {200, 500}


# the scenarios that are shipped


def test_mixed20_fails_about_one_in_five_and_all_is_answered_in_the_end():
    with FaultServer("mixed20", latency_s=0.0) as server:
        for i in range(150):
            for _ in range(20):
                try:
                    got = ask(server, str(i))
                    if got.status == 200 and got.text:
                        break
                except Exception:  # noqa: BLE001 - any of a dozen, see the scenario
                    continue
            else:
                pytest.fail("never answered")
        failed = len(server.stats.requests) - server.stats.answered
        assert server.stats.answered == 150
        assert 15 <= failed <= 65
        assert len(server.stats.by_action) >= 7


def test_quota_keys_and_poison():
    with FaultServer("quota_after_50", latency_s=0.0) as server:
        connection = connect(server)
        assert [ask(server, str(i), on=connection).status for i in range(52)] == [200] * 50 + [429] * 2
    with FaultServer("wrong_key") as server:
        assert ask(server).status == 401
        assert send(server, "GET", "/v1/models").status == 401
    with FaultServer("one_bad_key", latency_s=0.0) as server:
        assert [ask(server, key=key).status for key in ("bad-key", "empty-key", "third-key")] == [401, 429, 200]
    with FaultServer("poison", latency_s=0.0) as server:
        assert [ask(server, text).status for text in ("poison", "poison", "fine")] == [400, 400, 200]


def test_keys_come_back_where_the_scenario_says_so_and_are_kept_nowhere():
    key = "sk-a-key-that-comes-back"
    with FaultServer("tells_key") as server:
        assert ask(server, "teapot", key=key).json["error"]["message"] == f"Not with these headers: Bearer {key}"
        got = [ask(server, str(i), key=key) for i in range(40)]
        assert {g.status for g in got} == {200, 500}
        assert all(key.encode() in g.body for g in got)
        assert key not in repr(server.stats)


def test_length_and_unparsable_go_well_the_second_time():
    with FaultServer("length", latency_s=0.0) as server:
        assert [ask(server, PAIRS, max_tokens=n).finish for n in (100, 4000)] == ["length", "stop"]
    with FaultServer("unparsable_once", latency_s=0.0) as server:
        bad = ask(server, PAIRS).text
        with pytest.raises(json.JSONDecodeError):
            json.loads(bad)
        corrective = [
            {"role": "user", "content": PAIRS},
            {"role": "assistant", "content": bad},
            {"role": "user", "content": "This is no JSON. Give the JSON alone."},
        ]
        assert len(json.loads(ask(server, messages=corrective).text)["pairs"]) == 2
    with FaultServer("unparsable_always", latency_s=0.0) as server:
        assert not any(ask(server, PAIRS).text.startswith("{") for _ in range(3))


def test_zhipu_codes_come_with_their_status():
    with FaultServer("zhipu_codes", latency_s=0.0) as server:
        assert ask(server, "a sensitive row").json["error"]["code"] == "1301"
        connection = connect(server)
        got = [ask(server, str(i), on=connection) for i in range(120)]
        codes = {(g.status, g.json["error"]["code"]) for g in got if "error" in g.json}
        assert {(429, "1302"), (429, "1305"), (500, "1234"), (200, "1302")} <= codes
        assert sum("error" in g.json for g in got) < 60


def test_when_has_no_condition_by_default():
    assert all(value is None for value in vars(When()).values())
