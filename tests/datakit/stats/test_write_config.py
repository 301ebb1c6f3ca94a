"""One line of a YAML is changed or added, and every other byte stays."""

import os
import stat

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from datakit.stats.write_config import check_config, edited, write_cutoff
from registry.errors import UsageError


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# run\nstage: sft\ncutoff_len: 1024  # tokens\nlr: 1.0e-4\n", "# run\nstage: sft\ncutoff_len: 576  # tokens\nlr: 1.0e-4\n"),
        ("cutoff_len: 1024", "cutoff_len: 576"),
        ("cutoff_len:\nstage: sft\n", "cutoff_len: 576\nstage: sft\n"),
        ('"cutoff_len": 7\n', '"cutoff_len": 576\n'),
        ("stage: sft", "stage: sft\ncutoff_len: 576\n"),
        ("", "cutoff_len: 576\n"),
        ("# nothing yet\n", "# nothing yet\ncutoff_len: 576\n"),
        ("a: 1\r\ncutoff_len: 9\r\nb: 2\r\n", "a: 1\r\ncutoff_len: 576\r\nb: 2\r\n"),
        ("a: 1\r\n", "a: 1\r\ncutoff_len: 576\r\n"),
        ("data:\n  cutoff_len: 9\n", "data:\n  cutoff_len: 9\ncutoff_len: 576\n"),
        ("note: |\n  text\ncutoff_len: 9 \n", "note: |\n  text\ncutoff_len: 576 \n"),
        ("# cutoff_len: 9\na: 1\n", "# cutoff_len: 9\na: 1\ncutoff_len: 576\n"),
    ],
)  # fmt: skip
def test_comments_order_and_line_ends_are_kept(tmp_path, before, after):
    path = tmp_path / "run.yaml"
    path.write_bytes(before.encode())
    write_cutoff(path, 576)
    assert path.read_bytes().decode() == after


def test_what_it_was_before_is_told(tmp_path):
    path = tmp_path / "run.yaml"
    assert write_cutoff(path, 576) is None
    assert path.read_text() == "cutoff_len: 576\n"
    assert write_cutoff(path, 640) == 576
    assert write_cutoff(path, 640) == 640


KEYS = st.text(st.characters(categories=["Ll"]), min_size=1, max_size=5)


@given(st.dictionaries(st.one_of(KEYS, st.just("cutoff_len")), st.one_of(st.integers(), st.text(max_size=9), st.lists(st.integers(), max_size=3))))  # fmt: skip
def test_whatever_else_a_config_holds_means_the_same_after(config):
    text = yaml.safe_dump(config, sort_keys=False)
    try:
        changed, old = edited(text, 576, "run.yaml")
    except UsageError:
        assert text == "{}\n" or isinstance(config.get("cutoff_len"), list | str)  # over several lines, or in braces
        return
    assert yaml.safe_load(changed) == config | {"cutoff_len": 576}
    assert old == config.get("cutoff_len")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "a config is a mapping"),
        ("just text\n", "a config is a mapping"),
        ("a: [1\n", "not YAML"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("{stage: sft}\n", "cannot be set in it line by line"),
        ("{cutoff_len: 5}\n", "cannot be set in it line by line"),
        ("cutoff_len:\n  5\n", "cannot be set in it line by line"),
        ("a: 1\n...\n", "cannot be set in it line by line"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_what_is_no_mapping_is_refused_before_anything_is_measured_and_left_alone(tmp_path, text, told):
    path = tmp_path / "run.yaml"
    raw = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(raw)
    with pytest.raises(UsageError, match=told):
        check_config(path)
    assert path.read_bytes() == raw


def test_a_link_stays_a_link_and_permissions_stay(tmp_path):
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("cutoff_len: 1\n")
    real.chmod(0o640)
    link.symlink_to(real)
    write_cutoff(link, 576)
    assert link.is_symlink()
    assert real.read_text() == "cutoff_len: 576\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_folder_that_takes_no_file_is_refused_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="nothing can be written in"):
        check_config(tmp_path / "file" / "run.yaml")
    check_config(tmp_path / "new" / "run.yaml")
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(UsageError, match="nothing can be written in"):
            check_config(tmp_path / "run.yaml")
