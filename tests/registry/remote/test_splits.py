"""Which files make up a split: what `datasets` would read, without a download, and without running or trusting anything."""

from __future__ import annotations

import logging

import pytest

from registry.errors import UsageError
from registry.rows import Row, read_rows
from registry.sources import expand_sources
from tests.registry.remote.conftest import COMMIT

datasets = pytest.importorskip("datasets")

ROW = '{"a": 1}\n'


def card(yaml: str) -> str:
    return f"---\n{yaml}\n---\n# A dataset\n"


@pytest.fixture
def dataset(folder_hub):
    """``dataset("en/a.jsonl", card=…)`` makes hf://org/name; it returns a function: source → paths within."""

    def make(*names, readme=None, content=ROW):
        made = folder_hub("hf")
        made.add("org/name", **{name.replace("/", "__").replace(".", "_dot_"): content for name in names})
        if readme is not None:
            made.add("org/name", README_dot_md=readme)

        def paths(source):
            found = [file.removeprefix(f"hf://org/name@{COMMIT}/") for file in expand_sources([source])]
            assert not [what for what in made.asked if what.startswith("fetch") and not what.endswith("README.md")]
            return found

        return paths

    return make


def test_names_of_files_tell_their_splits_as_datasets_does(dataset):
    paths = dataset(
        "data/train-00001-of-00002.jsonl", "data/train-00000-of-00002.jsonl", "data/test-00000-of-00001.jsonl"
    )
    assert paths("hf://org/name") == ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"]
    assert paths("hf://org/name:test") == ["data/test-00000-of-00001.jsonl"]
    assert paths("hf://org/name:test+train")[0] == "data/test-00000-of-00001.jsonl"
    assert len(paths("hf://org/name:all")) == 3


def test_one_file_without_a_split_in_its_name_is_train(dataset):
    assert dataset("rows.json", ".gitattributes", "dataset_infos.json")("hf://org/name:train") == ["rows.json"]


def test_the_card_tells_subsets_and_splits(dataset):
    readme = card(
        "configs:\n- config_name: en\n  data_files: en/*.jsonl\n"
        "- config_name: fr\n  data_files:\n  - split: test\n    path: fr/b.jsonl\n"
    )
    paths = dataset("en/a.jsonl", "fr/b.jsonl", readme=readme)
    assert paths("hf://org/name/en:train") == ["en/a.jsonl"]
    assert paths("hf://org/name/fr:test") == ["fr/b.jsonl"]
    with pytest.raises(UsageError) as error:
        paths("hf://org/name:train")
    assert str(error.value) == (
        "hf://org/name:train: the dataset has several subsets, and one must be named\n"
        "  Subsets: en, fr. For example  hf://org/name/en:train"
    )
    with pytest.raises(UsageError, match=r'has no subset "enn"\n  Did you mean "en"\? Subsets: en, fr'):
        paths("hf://org/name/enn:train")


def test_a_folder_of_the_dataset_stands_for_it(dataset):
    paths = dataset("v1/train.jsonl", "v2/train.jsonl")
    assert paths("hf://org/name:train?folder=v2") == ["v2/train.jsonl"]
    with pytest.raises(UsageError, match='holds no data file in the folder "v3"'):
        paths("hf://org/name:train?folder=v3")


def test_the_only_split_is_meant_where_none_is_named_and_else_the_choice_is_told(dataset):
    assert dataset("validation.jsonl")("hf://org/name") == ["validation.jsonl"]
    paths = dataset("test.jsonl")
    with pytest.raises(UsageError, match=r"has no split train, and one must be named\n  Splits: validation, test"):
        paths("hf://org/name")
    with pytest.raises(UsageError, match=r'no split "tset"\n  Did you mean "test"\? Splits: validation, test'):
        paths("hf://org/name:tset")


def test_the_rows_are_read_by_our_readers_so_that_large_numbers_stay(dataset):
    dataset("train.jsonl", content='{"n": 9007199254740993, "x": null}\n{"n": null, "x": "a"}\n')
    rows = [row.data for row in read_rows(["hf://org/name"]) if isinstance(row, Row)]
    assert rows == [{"n": 9007199254740993, "x": None}, {"n": None, "x": "a"}]


def test_a_program_in_a_dataset_is_never_run(dataset, tmp_path):
    paths = dataset("name.py", "train.jsonl", content=f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UsageError, match=r"made by a program of its own \(name.py\).*\n.*@refs/convert/parquet"):
        paths("hf://org/name")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["{outside}/secret.json", "../../../../../../../../../..{outside}/secret.json"])
def test_a_card_cannot_name_files_outside_of_its_dataset(dataset, tmp_path, place):
    (tmp_path / "secret.json").write_text(ROW)
    readme = card(f"configs:\n- config_name: default\n  data_files: {place.format(outside=tmp_path)}")
    with pytest.raises(UsageError, match="its card names a file outside of the dataset"):
        dataset("train.jsonl", readme=readme)("hf://org/name")


@pytest.mark.parametrize(
    ("names", "readme", "reason"),
    [
        (["notes.docx"], None, "holds no data file of a kind that is read here"),
        (["data.zip"], None, "holds no data file of a kind that is read here"),
        (["train.csv"], "configs: [[[", "the dataset's card cannot be followed"),
        (["train.xml"], None, '"train.xml" is not a kind of file that is read here'),
        (
            ["train.csv"],
            'configs:\n- config_name: default\n  data_files: train.csv\n  sep: ";"',
            "its card says to read the files with sep = ';'",
        ),
    ],
)
def test_what_cannot_be_read_as_the_dataset_means_it_is_refused(dataset, names, readme, reason):
    with pytest.raises(UsageError, match=reason):
        dataset(*names, readme=None if readme is None else card(readme))("hf://org/name")


def test_tabs_are_the_separator_of_tsv_and_no_setting_of_its_own(dataset):
    assert dataset("train.tsv")("hf://org/name") == ["train.tsv"]


def test_datasets_reads_the_same_files_in_the_same_order(dataset, tmp_path):
    names = [
        "data/train-00000-of-00002.jsonl",
        "data/train-00001-of-00002.jsonl",
        "data/dev.jsonl",
        "extra/train.jsonl",
    ]
    paths = dataset(*names)
    logging.getLogger("datasets").setLevel(logging.ERROR)
    oracle = datasets.load_dataset_builder(str(tmp_path / "hf-hub" / "org" / "name"), cache_dir=str(tmp_path / "cache"))
    for split, files in oracle.config.data_files.items():
        assert [str(tmp_path / "hf-hub" / "org" / "name" / path) for path in paths(f"hf://org/name:{split}")] == files
