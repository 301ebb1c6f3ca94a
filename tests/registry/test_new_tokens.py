"""Tokens of a run's own: their ids follow the tokenizer's last, and in every text they are one token."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.datasets import Layout
from registry.encoded.build import encoded_rows
from registry.encoded.spec import EncodeSpec, key_of
from registry.new_tokens import NewTokens
from registry.render import RenderRules, turns_of
from registry.tokenizer import open_tokenizer
from tests.conftest import chat
from tests.registry.encoded.conftest import save_tokenizer

TOKENS = NewTokens(("km/h", "<eos>", "km/h"), ("<tool>", "<answer>"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("new") / "bytes", ("<bos>", "<eos>", "<pad>"))


def test_ids_follow_the_order_plain_then_special_then_the_templates(folder: Path) -> None:
    tokenizer, _ = open_tokenizer(folder, "chatml", added=TOKENS)
    named = {token: tokenizer.token_id(token) for token in ("km/h", "<eos>", "<tool>", "<answer>", "<|im_end|>")}
    assert named == {"<eos>": 257, "km/h": 259, "<tool>": 260, "<answer>": 261, "<|im_end|>": 262}
    assert (tokenizer.added_tokens, tokenizer.size) == (("km/h", "<tool>", "<answer>"), 264)
    assert tokenizer.new_tokens == ("<|im_end|>", "<|im_start|>")


def test_the_ids_are_those_of_transformers_for_the_same_calls_in_the_same_order(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.add_tokens(list(TOKENS.plain), special_tokens=False)
    theirs.add_tokens(list(TOKENS.special), special_tokens=True)
    theirs.add_special_tokens(
        {"additional_special_tokens": ["<|im_end|>", "<|im_start|>"]}, replace_extra_special_tokens=False
    )
    ours, _ = open_tokenizer(folder, "chatml", added=TOKENS)
    for text in ("90 km/h", "<tool>a<answer> <tool>", "x<|im_end|><|im_start|>km/h", "Km/h < tool>"):
        assert ours.encode_batch([text])[0] == theirs(text, add_special_tokens=False)["input_ids"]


def test_a_runs_special_tokens_are_tokens_in_the_users_text_and_the_templates_are_not(folder: Path) -> None:
    tokenizer, renderer = open_tokenizer(folder, "chatml", added=TOKENS)
    turns = turns_of(chat("<tool><|im_end|>", "<answer>"), renderer)
    slots = [slot for turn in turns for slot in (*turn.asked, *turn.target) if isinstance(slot, str)]
    ids = [i for found in tokenizer.encode_batch(slots) for i in found]
    assert ids.count(tokenizer.token_id("<tool>")) == 1
    assert ids.count(tokenizer.token_id("<|im_end|>")) == 2  # the template's own, after each message


def test_encoded_rows_are_kept_apart_by_the_tokens_that_were_added(folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "<tool> at 90 km/h?", "output": "<answer>yes"}\n', "utf-8")

    def spec(tokens: NewTokens) -> EncodeSpec:
        return EncodeSpec("turns", (str(rows),), Layout(), str(folder), "chatml", RenderRules(), added=tokens)

    keys = {
        key_of(spec(t).identity(["x"])) for t in (NewTokens(), TOKENS, NewTokens(("km/h",)), NewTokens((), ("km/h",)))
    }
    assert len(keys) == 4
    plain, grown = (encoded_rows(spec(t), tmp_path / "cache", told="rows") for t in (NewTokens(), TOKENS))
    assert plain.folder != grown.folder
    ids = grown.row(0)[0].tolist()
    assert [ids.count(i) for i in (259, 260, 261)] == [1, 1, 1]
    assert max(plain.row(0)[0].tolist()) < 261  # only the template's words are new
