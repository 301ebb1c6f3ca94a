"""A shard comes back as it was written, or is told as damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.encoded.shard import Extras, Shard, write_shard
from registry.errors import RowFault, UsageError
from registry.uncut import Uncut, encode_plain
from tests.conftest import BYTES

PARTS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=4), max_size=4)
ROW = st.tuples(
    PARTS, st.integers(0, 9), st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=3),
    st.none() | st.lists(st.integers(0, 3), max_size=4), st.none() | st.booleans(), st.none() | st.text("ab\t\n", max_size=4),
)  # fmt: skip


def uncut_of(rows: list[list[list[int]]], faults: dict[int, RowFault]) -> Uncut:
    parts = [len(part) for row in rows for part in row]
    ids = np.array([i for row in rows for part in row for i in part], np.int32)
    row_ends = np.cumsum([0, *(sum(map(len, row)) for row in rows)])
    return Uncut(ids, row_ends, np.array(parts, np.int32), np.cumsum([0, *map(len, rows)]), faults)


@given(st.lists(ROW, max_size=6))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "some.arrow"
    reasons = {number: row[5] for number, row in enumerate(rows) if row[5] is not None}
    uncut = uncut_of(
        [row[0] for row in rows], {number: RowFault("messages[1]", why) for number, why in reasons.items()}
    )
    extras = Extras(list(range(3, 3 + len(rows))), *([row[place] for row in rows] for place in (1, 2, 3, 4)))
    made = write_shard(path, uncut, extras)
    shard = Shard(path, num_bytes=made["bytes"], crc=made["crc"])
    assert shard.num_rows == len(rows)
    assert [shard.ids.tolist(), shard.ends.tolist()] == [uncut.ids.tolist(), uncut.row_ends.tolist()]
    assert [shard.parts.tolist(), shard.part_ends.tolist()] == [uncut.parts.tolist(), uncut.part_ends.tolist()]
    assert shard.rows.tolist() == extras.rows
    assert (shard.leads if shard.leads is None else shard.leads.tolist()) == (
        extras.leads if any(extras.leads) else None
    )
    assert [shard.weights(n) or None for n in range(len(rows))] == [one or None for one in extras.weights]
    assert [shard.roles(n) or None for n in range(len(rows))] == [one or None for one in extras.roles]
    assert {n: (fault.field, fault.reason) for n, fault in shard.faults.items()} == {
        n: ("messages[1]", why) for n, why in reasons.items()
    }
    if shard.desirable is not None:
        assert shard.desirable.to_pylist() == extras.desirable


def test_roles_of_parts_are_user_and_assistant_in_turn_unless_told(tmp_path: Path) -> None:
    rows = [[[1], [2], [3], [4]], [[1], [2]], [[5], [6]], []]
    extras = Extras([1, 2, 3, 4], roles=[[0, 3, 2, 1], None, [0, 3, 2], None])
    made = write_shard(tmp_path / "a.arrow", uncut_of(rows, {}), extras)
    shard = Shard(tmp_path / "a.arrow", num_bytes=made["bytes"], crc=made["crc"])
    assert shard.part_roles().tolist() == [0, 3, 2, 1, 0, 1, 0, 1]


def test_ids_are_a_view_of_the_file_and_not_a_copy(tmp_path: Path) -> None:
    made = write_shard(tmp_path / "a.arrow", encode_plain(["ab"], BYTES), Extras([1]))
    shard = Shard(tmp_path / "a.arrow", num_bytes=made["bytes"], crc=made["crc"])
    assert (shard.ids.dtype, shard.ids.flags.writeable, shard.ids.flags.owndata) == (np.int32, False, False)


def test_a_shard_that_is_not_what_was_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    made = write_shard(path, encode_plain(["abc"], BYTES), Extras([1]))
    content = path.read_bytes()

    def told() -> str:
        with pytest.raises(UsageError, match="the encoded rows are damaged") as caught:
            Shard(path, num_bytes=made["bytes"], crc=made["crc"])
        assert f"Remove the folder {tmp_path}; it is made again." in str(caught.value)
        return caught.value.what

    path.write_bytes(content[:-1])
    assert f"it has {made['bytes'] - 1:,} bytes, and {made['bytes']:,} were written" in told()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    assert "its checksum is not that of what was written" in told()
    path.unlink()
    assert "the file is gone" in told()


def test_a_file_that_is_no_arrow_file_is_damaged_though_it_is_what_was_written(tmp_path: Path) -> None:
    import zlib

    (tmp_path / "a.arrow").write_bytes(b"something else")
    with pytest.raises(UsageError, match="the encoded rows are damaged"):
        Shard(tmp_path / "a.arrow", num_bytes=14, crc=zlib.crc32(b"something else"))
