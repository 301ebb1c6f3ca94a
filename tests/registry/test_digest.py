"""Hashes taken in the background are those of the files, and never keep a command from ending."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from registry.digest import Digests, Following, hashing, sha256_of


def test_the_hash_is_that_of_the_bytes_whether_it_was_begun_earlier_or_not(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"abc" * 2_000_000)
    two.write_bytes(b"")
    with hashing([str(one), str(one)]) as digests:
        assert digests.of(str(one)) == sha256_of(one) == hashlib.sha256(b"abc" * 2_000_000).hexdigest()
        assert digests.of(str(two)) == hashlib.sha256(b"").hexdigest()


def test_a_file_that_is_gone_is_told_to_whoever_asks(tmp_path: Path) -> None:
    with hashing([str(tmp_path / "none")]) as digests, pytest.raises(FileNotFoundError):
        digests.of(str(tmp_path / "none"))


def test_what_was_stopped_is_hashed_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    digests = Digests()
    digests.stop()
    digests.start([str(tmp_path / "a")])
    assert digests.of(str(tmp_path / "a")) == hashlib.sha256(b"a").hexdigest()


def test_a_file_is_hashed_while_it_is_written(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as out:
        following = Following(tmp_path / "out")
        for piece in (b"one", b"", b"two" * 1_000_000):
            out.write(piece)
    following.complete()
    assert following.sha256() == hashlib.sha256(b"one" + b"two" * 1_000_000).hexdigest()


def test_what_was_cut_or_written_over_on_the_way_is_hashed_as_it_lies(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"much more than that")
    following = Following(tmp_path / "out")
    following.complete()
    following.sha256()
    (tmp_path / "out").write_bytes(b"less")
    assert following.sha256() == hashlib.sha256(b"less").hexdigest()


def test_a_file_that_is_not_wanted_is_let_go_of(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"x")
    following = Following(tmp_path / "out")
    following.stop()
    following._thread.join(10)
    assert not following._thread.is_alive()
