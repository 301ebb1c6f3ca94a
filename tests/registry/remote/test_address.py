"""Addresses of datasets on a hub: what each part means, and that none is lost on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import UsageError
from registry.remote.address import HubAddress, parse_address

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://org/name", HubAddress("hf", "org/name")),
        ("hf://squad", HubAddress("hf", "squad")),
        ("HF://datasets/org/name/", HubAddress("hf", "org/name")),
        ("hf://org/name:test", HubAddress("hf", "org/name", split="test")),
        ("hf://org/name/en:train+test", HubAddress("hf", "org/name", subset="en", split="train+test")),
        ("hf://org/name@v1.0/en:train", HubAddress("hf", "org/name", "v1.0", subset="en", split="train")),
        (
            "hf://org/name@refs/convert/parquet:train",
            HubAddress("hf", "org/name", "refs/convert/parquet", split="train"),
        ),
        ("hf://org/name/data/a.parquet", HubAddress("hf", "org/name", path="data/a.parquet")),
        (f"hf://org/name@{SHA}/a%3Ab.jsonl", HubAddress("hf", "org/name", SHA, path="a:b.jsonl")),
        ("ms://org/name/**/*.jsonl", HubAddress("ms", "org/name", path="**/*.jsonl")),
        ("ms://org/name/en:train?folder=data/v2", HubAddress("ms", "org/name", None, None, "en", "train", "data/v2")),
    ],
)
def test_the_parts_of_an_address(text, expected):
    assert parse_address(text) == expected


_word = st.text("ab1-_.", min_size=1, max_size=5).filter(lambda w: w not in (".", "..") and ".." not in w)
_paths = st.lists(st.text("ab1.:?#% é", min_size=1, max_size=5).filter(lambda w: ".." not in w), min_size=1, max_size=3)


@given(
    st.builds(
        HubAddress,
        st.sampled_from(["hf", "ms"]),
        st.builds("{}/{}".format, _word, _word).filter(lambda repo: not repo.startswith("datasets/")),
        st.none() | _word | st.just(SHA),
        st.none() | _paths.map("/".join),
    )
)
def test_an_address_of_a_file_comes_back_from_its_text(address):
    assert parse_address(str(address)) == address


@given(st.builds(HubAddress, st.just("hf"), st.just("o/n"), st.none() | _word, st.none(), st.none() | _word, _word))
def test_an_address_of_a_split_comes_back_from_its_text(address):
    if address.subset and address.subset.lower().endswith((".json", ".csv")):
        return
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hf://", "this is no address of a dataset"),
        ("hf:///name", "this is no address of a dataset"),
        ("ms://name", "this is no address of a dataset"),
        ("hf://org/name:train[:10%]", r'"train\[:10%\]" is a part of a split.*\n.*:train .*--limit N'),
        ("hf://org/name:", '"" is no name of a split'),
        ("hf://org/name/a.jsonl:train", "a file has no splits"),
        ("hf://org/name/../../x.json", "leads out of the dataset"),
        ("hf://org/name?foldr=x", r'unknown key "foldr"\n  Did you mean "folder"'),
        ("hf://org/name/a.json?folder=x", "a path and a folder exclude each other"),
    ],
)
def test_what_is_no_address_is_refused_with_the_way_to_spell_it(text, reason):
    with pytest.raises(UsageError, match=reason):
        parse_address(text)


def test_signs_that_an_address_is_taken_apart_at_are_kept_in_names():
    for path in ("a%3Ab.jsonl", "a:b?c#d%.jsonl"):
        assert parse_address(str(HubAddress("hf", "org/name", SHA, path))).path == path


def test_an_address_as_an_entry_of_dataset_info():
    address = parse_address("ms://org/name/en:train?folder=data")
    assert address.as_entry() == {"ms_hub_url": "org/name", "subset": "en", "split": "train", "folder": "data"}
    assert parse_address("hf://org/name").as_entry() == {"hf_hub_url": "org/name"}
    for text in ("hf://org/name@v1", "hf://org/name/a.jsonl"):
        with pytest.raises(UsageError, match="no key for a revision or for files"):
            parse_address(text).as_entry()
