"""tokenized_path: encoded once, loaded where the rows are gone, and refused where it was made otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from registry.blocks import read_blocks
from registry.datasets import Layout
from registry.encoded import chunks
from registry.encoded.build import encoded_rows
from registry.encoded.spec import EncodeSpec
from registry.encoded.work import Encoding
from registry.errors import UsageError
from registry.render import RenderRules
from tests.registry.encoded.conftest import listed, save_tokenizer
from tests.trainkit.conftest import QUESTIONS
from trainkit.config import load_config
from trainkit.data.account import Examples
from trainkit.data.tokenized import is_tokenized, only_read, open_tokenized, save_tokenized, saved_files
from trainkit.encode import load

MakeSpec = Callable[..., EncodeSpec]


@pytest.fixture
def spec(tmp_path: Path) -> MakeSpec:
    """``spec(template="empty")``: two rows for sft by chatml, with changes."""
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"".join(orjson.dumps({"instruction": text, "output": "b"}) + b"\n" for text in "ac"))
    folder = save_tokenizer(tmp_path / "model")

    def make(**changes: Any) -> EncodeSpec:
        given = {"files": (str(rows),), "tokenizer_folder": str(folder), "template": "chatml", "rules": RenderRules()}
        return EncodeSpec(**{"kind": "turns", "layout": Layout(), **given, **changes})

    return make


@pytest.fixture
def saved(spec: MakeSpec, tmp_path: Path) -> Path:
    """A folder with the rows of the set ``mine``."""
    folder = tmp_path / "saved"
    save_tokenized(folder, {"mine": encoded_rows(spec(), tmp_path / "cache")})
    shutil.rmtree(tmp_path / "cache")
    return folder


def refusal(folder: Path, specs: dict[str, EncodeSpec]) -> str:
    with pytest.raises(UsageError) as caught:
        open_tokenized(folder, specs)
    assert str(caught.value).startswith(f"tokenized_path {folder}: ")
    return str(caught.value)


def test_what_is_saved_is_loaded(spec: MakeSpec, saved: Path, tmp_path: Path) -> None:
    assert is_tokenized(saved)
    assert saved_files(saved) == {"mine": [str(tmp_path / "rows.jsonl")]}
    found = open_tokenized(saved, {"mine": spec()})
    assert found is not None
    assert listed(found["mine"]) == listed(encoded_rows(spec(), tmp_path / "cache"))
    assert found["mine"].place(1) == (str(tmp_path / "rows.jsonl"), 2)


def test_the_rows_themselves_may_be_gone(spec: MakeSpec, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").unlink()
    found = open_tokenized(saved, {"mine": spec()})
    assert found is not None
    assert len(found["mine"]) == 2


def test_the_folder_may_be_moved(spec: MakeSpec, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "elsewhere")
    shutil.rmtree(saved)
    found = open_tokenized(tmp_path / "elsewhere", {"mine": spec()})
    assert found is not None
    assert len(found["mine"]) == 2


@pytest.mark.parametrize("make", [None, "empty folder"])
def test_an_empty_folder_is_to_be_filled(spec: MakeSpec, tmp_path: Path, make: str | None) -> None:
    if make:
        (tmp_path / "new").mkdir()
    assert open_tokenized(tmp_path / "new", {"mine": spec()}) is None
    assert only_read(str(tmp_path / "new")) is None
    assert only_read(None) is None
    assert saved_files(tmp_path / "new") == {}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"template": "empty"}, ["template: was 'chatml', is now 'empty'", "template_text: differs"]),
        ({"rules": RenderRules(default_system="Be kind.")}, ["rules.default_system: was None, is now 'Be kind.'"]),
        ({"kind": "answer"}, ["kind: was 'turns', is now 'answer'"]),
        ({"strict": True}, ["strict: was False, is now True"]),
        ({"layout": Layout("sharegpt")}, ["layout.formatting: was 'alpaca', is now 'sharegpt'"]),
    ],
)
def test_other_settings_are_refused_and_named(
    spec: MakeSpec, saved: Path, changes: dict[str, Any], told: list[str]
) -> None:
    error = refusal(saved, {"mine": spec(**changes)})
    assert "the rows of mine were encoded otherwise than this run asks for" in error
    assert all(f"\n  {line}" in error for line in told)


def test_another_tokenizer_is_refused(spec: MakeSpec, saved: Path, tmp_path: Path) -> None:
    other = save_tokenizer(tmp_path / "other", ("<bos>", "<eos>", "<pad>", "<tool>"))
    assert "\n  tokenizer: differs" in refusal(saved, {"mine": spec(tokenizer_folder=str(other))})


def test_rows_that_changed_since_are_refused(spec: MakeSpec, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "x", "output": "y"}\n')
    assert "the files of the dataset have changed since" in refusal(saved, {"mine": spec()})


def test_a_set_that_it_does_not_hold_is_named(spec: MakeSpec, saved: Path) -> None:
    error = refusal(saved, {"mine": spec(), "yours": spec()})
    assert "it holds no rows of yours" in error
    assert "It holds: mine." in error


def test_a_folder_of_datasets_save_to_disk_is_refused_with_the_reason(spec: MakeSpec, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "theirs"
    datasets.Dataset.from_list([{"input_ids": [1], "labels": [1]}]).save_to_disk(folder)
    assert only_read(str(folder)) == str(folder)
    error = refusal(folder, {"mine": spec()})
    assert "no encoded rows of this tool" in error
    assert "What LLaMA-Factory saved does not tell by which template and tokenizer it was made" in error


def test_another_format_is_refused(spec: MakeSpec, saved: Path) -> None:
    held = json.loads((saved / "tokenized.json").read_text())
    (saved / "tokenized.json").write_text(json.dumps({**held, "format": 99}))
    assert "the encoded rows have format 99" in refusal(saved, {"mine": spec()})


@pytest.mark.parametrize("held", ["{", "[]", '{"format": 1}', "\udcff"])
def test_a_list_of_contents_that_cannot_be_read_is_refused(spec: MakeSpec, saved: Path, held: str) -> None:
    (saved / "tokenized.json").write_bytes(held.encode("utf-8", "surrogateescape"))
    for read in (lambda: open_tokenized(saved, {"mine": spec()}), lambda: saved_files(saved)):
        with pytest.raises(UsageError, match=r"tokenized\.json: the encoded rows are damaged"):
            read()


@pytest.mark.parametrize("name", ["spec.json", "journal.jsonl", "0000-000000.arrow"])
@pytest.mark.parametrize("how", ["gone", "cut off"])
def test_rows_that_are_damaged_are_an_error_since_the_cache_cannot_make_them_again(
    spec: MakeSpec, saved: Path, name: str, how: str
) -> None:
    (path,) = saved.glob(f"*/{name}")
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UsageError, match=r"the encoded rows are damaged|it holds the first 2 rows alone"):
        open_tokenized(saved, {"mine": spec()})


def many(tmp_path: Path, count: int) -> None:
    rows = [{"instruction": "q" * 90, "output": str(n)} for n in range(count)]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


@pytest.fixture
def first_rows(spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some of 20 rows, as ``max_samples`` leaves it."""
    monkeypatch.setattr(chunks, "ONE_CHUNK", 10)
    monkeypatch.setattr(chunks, "PIECES", 1)
    monkeypatch.setattr(chunks, "read_blocks", partial(read_blocks, size=300))
    many(tmp_path, 20)
    rows = encoded_rows(spec(), tmp_path / "cache", limit=5)
    assert 5 <= len(rows) < 20
    save_tokenized(tmp_path / "first", {"mine": rows})
    return tmp_path / "first"


def test_the_first_rows_serve_a_run_that_asks_for_no_more(spec: MakeSpec, first_rows: Path) -> None:
    found = open_tokenized(first_rows, {"mine": spec()}, {"mine": 5})
    assert found is not None
    assert len(found["mine"]) < 20
    with pytest.raises(UsageError, match=r"it holds the first [0-9]+ rows alone, and this run asks for all of them"):
        open_tokenized(first_rows, {"mine": spec()})
    with pytest.raises(UsageError, match="and this run asks for 20"):
        open_tokenized(first_rows, {"mine": spec()}, {"mine": 20})


def test_what_is_saved_stays_as_it_was_when_the_cache_goes_on(spec: MakeSpec, first_rows: Path, tmp_path: Path) -> None:
    before = open_tokenized(first_rows, {"mine": spec()}, {"mine": 5})
    whole = encoded_rows(spec(), tmp_path / "cache")
    after = open_tokenized(first_rows, {"mine": spec()}, {"mine": 5})
    assert before is not None
    assert after is not None
    assert listed(after["mine"]) == listed(before["mine"])
    save_tokenized(first_rows, {"mine": whole})
    again = open_tokenized(first_rows, {"mine": spec()})
    assert again is not None
    assert listed(again["mine"]) == listed(whole)


def test_a_folder_that_a_stopped_run_left_is_filled_again(spec: MakeSpec, saved: Path, tmp_path: Path) -> None:
    (saved / "tokenized.json").unlink()
    assert open_tokenized(saved, {"mine": spec()}) is None
    save_tokenized(saved, {"mine": encoded_rows(spec(), tmp_path / "cache")})
    assert open_tokenized(saved, {"mine": spec()}) is not None
    (saved / "tokenized.json").unlink()
    (saved / "notes.txt").write_text("mine")
    assert "no encoded rows of this tool" in refusal(saved, {"mine": spec()})


# --- as a run uses it -------------------------------------------------------------------------------------------------


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    shard = Encoding.shard
    monkeypatch.setattr(Encoding, "shard", lambda self, chunk: (made.append(1), shard(self, chunk))[1])
    return made


def test_a_run_fills_the_folder_and_the_next_one_reads_it(
    config_file: Any, tmp_path: Path, encodings: list[int]
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in QUESTIONS))
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "rows.jsonl"}}')
    saved = tmp_path / "tokens"
    path = config_file(dataset="mine", dataset_dir=str(tmp_path), tokenized_path=str(saved), cache_dir=None)

    def digest(*overrides: str) -> Examples:
        return load(load_config(path, list(overrides)))[0]

    first = digest("default_system=Only here.")
    assert len(encodings) == 1
    assert sorted(p.name for p in saved.iterdir() if p.is_file()) == ["tokenized.json"]
    (tmp_path / "rows.jsonl").unlink()
    again = digest("default_system=Only here.")
    assert (len(encodings), again.digest(), len(again.train)) == (1, first.digest(), 24)
    with pytest.raises(UsageError, match=r"rules\.default_system: was 'Only here\.', is now None"):
        digest()


def test_a_file_more_in_the_folder_of_a_dataset_is_a_change(config_file: Any, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    lines = b"".join(orjson.dumps(row) + b"\n" for row in QUESTIONS)
    (tmp_path / "rows" / "a.jsonl").write_bytes(lines)
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "rows"}}')
    path = config_file(dataset="mine", dataset_dir=str(tmp_path), tokenized_path=str(tmp_path / "tokens"))
    assert len(load(load_config(path, []))[0].train) == 24
    (tmp_path / "rows" / "b.jsonl").write_bytes(lines)
    with pytest.raises(UsageError, match="the files of the dataset have changed since"):
        load(load_config(path, []))
