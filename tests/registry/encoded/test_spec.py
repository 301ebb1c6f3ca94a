"""The key of encoded rows changes with everything that decides their ids, and with nothing else."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.datasets import Columns, Layout, Tags
from registry.encoded import spec as module
from registry.encoded.spec import EncodeSpec, cache_root, contents_of, differences, key_of, tokenizer_digest
from registry.render import RenderRules
from tests.registry.encoded.conftest import SPECIALS, MakeSpec, save_tokenizer

CONTENTS = ["jsonl abc"]


def key(spec: EncodeSpec, contents: list[str] = CONTENTS) -> str:
    return key_of(spec.identity(contents))


def test_the_key_is_a_name_of_24_hex_digits_that_stays(spec: MakeSpec) -> None:
    assert key(spec("a.jsonl")) == key(spec("a.jsonl"))
    assert len(key(spec())) == 24
    assert int(key(spec()), 16) > 0


def test_neither_the_place_nor_the_name_of_a_file_matters(spec: MakeSpec, tmp_path: Path) -> None:
    assert key(spec("a.jsonl")) == key(spec(tmp_path / "b" / "c.jsonl"))


CHANGES: list[dict[str, Any]] = [
    {"kind": "answer"},
    {"template": "empty"},
    {"strict": True},
    {"end_text": "<eos>"},
    {"layout": Layout(columns=Columns(query=None))},
    {"layout": Layout(weights=False)},
    {"layout": Layout("sharegpt")},
    {"layout": Layout(tags=Tags(user_tag="user"))},
    {"rules": RenderRules(default_system="Be kind.")},
    {"rules": RenderRules(tool_format="qwen")},
    {"rules": RenderRules(tool_prompt_date="26 Jul 2024")},
    {"rules": RenderRules(strict=True)},
    {"rules": RenderRules(keep_special_text=True)},
]


def test_every_setting_that_decides_ids_has_a_key_of_its_own(spec: MakeSpec) -> None:
    keys = [
        key(spec()),
        *(key(spec(**change)) for change in CHANGES),
        key(spec(), ["jsonl abd"]),
        key(spec(), CONTENTS * 2),
    ]
    assert len(set(keys)) == len(keys)


THOUGHTS = [RenderRules(enable_thinking=None), RenderRules(preserve_thinking=True), RenderRules(discard_thoughts=True)]


@pytest.mark.parametrize(("template", "keys"), [("qwen3", 4), (None, 4), ("chatml", 1)])
def test_what_becomes_of_thoughts_matters_where_a_template_thinks(
    spec: MakeSpec, template: str | None, keys: int
) -> None:
    assert len({key(spec(template=template, rules=rules)) for rules in (RenderRules(), *THOUGHTS)}) == keys


def test_texts_of_pt_do_not_depend_on_how_conversations_are_spelled(spec: MakeSpec) -> None:
    assert key(spec(kind="text")) == key(spec(kind="text", rules=RenderRules(default_system="Be kind.")))


def test_a_template_that_is_mended_has_another_key(spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    before, load = key(spec()), module.load_template
    monkeypatch.setattr(module, "load_template", lambda *a, **o: replace(load(*a, **o), default_system="Hello."))
    assert key(spec()) != before


def test_a_tokenizer_is_what_its_files_hold(tmp_path: Path) -> None:
    first, same = save_tokenizer(tmp_path / "first"), save_tokenizer(tmp_path / "same")
    other = save_tokenizer(tmp_path / "other", (*SPECIALS, "<tool>"))
    assert tokenizer_digest(first) == tokenizer_digest(same) != tokenizer_digest(other)
    (same / "chat_template.jinja").write_text("{{ messages }}")
    assert tokenizer_digest(first) != tokenizer_digest(same)
    (first / "model.safetensors").write_bytes(b"weights")
    assert tokenizer_digest(first) == tokenizer_digest(save_tokenizer(tmp_path / "again"))


def test_a_prompt_that_names_the_day_is_kept_for_that_day_only(spec: MakeSpec, tmp_path: Path) -> None:
    tools = Layout(columns=Columns(tools="tools"))

    def day(one: EncodeSpec) -> Any:
        return one.identity(CONTENTS)["day"]

    assert day(spec(layout=tools)) is None
    assert day(spec(strict=True)) is None
    assert day(spec(layout=tools, strict=True)) is None  # chatml's tool prompt names no day
    assert day(spec(layout=tools, strict=True, template="llama3")) is not None
    assert (
        day(spec(layout=tools, strict=True, template="llama3", rules=RenderRules(tool_prompt_date="26 Jul 2024")))
        is None
    )
    folder = save_tokenizer(tmp_path / "own")
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%d') }}")
    assert day(spec(template=None, tokenizer_folder=str(folder))) is not None
    assert day(spec(template=None)) is None


# --- what files hold --------------------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read to be hashed."""
    read: list[str] = []
    sha256_of = module.sha256_of
    monkeypatch.setattr(module, "sha256_of", lambda file: (read.append(str(file)), sha256_of(file))[1])
    return read


def settled(path: Path, content: bytes) -> str:
    """A file that nobody has touched for a minute; the time of its status cannot be set, so the clock is."""
    path.write_bytes(content)
    past = time.time() - 60
    os.utime(path, (past, past))
    return str(path)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns
    monkeypatch.setattr(module.time, "time_ns", lambda: now() + 60_000_000_000)


@pytest.mark.usefixtures("later")
def test_a_file_is_hashed_once_until_it_is_touched(tmp_path: Path, hashed: list[str]) -> None:
    file = settled(tmp_path / "a.jsonl", b"one")
    first = contents_of([file], tmp_path)
    assert contents_of([file], tmp_path) == first
    assert hashed == [file]
    past = Path(file).stat().st_mtime
    Path(file).write_bytes(b"two")
    os.utime(file, (past, past))  # as some copying programs do
    assert contents_of([file], tmp_path) != first
    assert hashed == [file, file]


def test_a_file_touched_just_now_is_hashed_again(tmp_path: Path, hashed: list[str]) -> None:
    """Within a tick of a coarse clock a second change would leave the same times."""
    (tmp_path / "a.jsonl").write_bytes(b"one")
    file = str(tmp_path / "a.jsonl")
    assert contents_of([file], tmp_path) == contents_of([file], tmp_path)
    assert hashed == [file, file]


def test_the_same_bytes_under_another_ending_are_other_rows(tmp_path: Path) -> None:
    """A line of a .txt file is a text, and that of a .jsonl file an object."""
    for name in ("a.jsonl", "a.txt", "b.jsonl"):
        (tmp_path / name).write_bytes(b'{"text": "a"}\n')
    found = contents_of([str(tmp_path / name) for name in ("a.jsonl", "a.txt", "b.jsonl")], tmp_path)
    assert found[0] == found[2] != found[1]


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("held", [b"[]", b"{", b'{"x": 1}', b"\xff"])
def test_what_is_remembered_of_files_may_be_lost(tmp_path: Path, hashed: list[str], held: bytes) -> None:
    file = settled(tmp_path / "a.jsonl", b"one")
    (tmp_path / "digests.json").write_bytes(held)
    assert contents_of([file], tmp_path) == contents_of([file], tmp_path)
    assert hashed == [file]


def test_a_remote_file_is_what_its_server_tells_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"etag": "1"}
    monkeypatch.setattr(module, "fingerprint", lambda file: told)
    first = contents_of(["s3://bucket/a.jsonl"], tmp_path)
    assert contents_of(["s3://bucket/a.jsonl"], tmp_path) == first
    told["etag"] = "2"
    assert contents_of(["s3://bucket/a.jsonl"], tmp_path) != first


def test_differences_name_the_setting_and_both_values(spec: MakeSpec) -> None:
    mine = spec(rules=RenderRules(default_system="Be kind."), template="empty").identity(CONTENTS)
    found = json.loads(json.dumps(spec().identity(["other"])))
    assert differences(mine, mine) == []
    assert differences(mine, json.loads(json.dumps(mine))) == []
    assert differences(mine, found) == [
        "rules.default_system: was None, is now 'Be kind.'",
        "template: was 'chatml', is now 'empty'",
        "template_text: differs",
    ]


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("TUNEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "tunekit" / "encoded"
