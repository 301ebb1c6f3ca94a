"""One shard: a few thousand encoded rows as an Arrow file, written whole and read where it lies."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.atomic import atomic_file
from registry.errors import RowFault, UsageError

if TYPE_CHECKING:
    import numpy as np

    from registry.uncut import Uncut

READ_BYTES = 1 << 18
ROLES = ("user", "assistant", "observation", "function")


@dataclass
class Extras:
    """What is known of rows besides their ids; each list has an entry a row, or is empty where nothing is to say.

    ``rows`` are their numbers in the file, ``leads`` the tokens that open a conversation before its first message,
    ``weights`` what each answer counts, ``roles`` numbers in ``ROLES`` of all messages (None: user and assistant in
    turn), ``desirable`` a judgement, ``specials`` how many special tokens stand as text in a row.
    """

    rows: list[int] = field(default_factory=list)
    leads: list[int] = field(default_factory=list)
    weights: list[list[float] | None] = field(default_factory=list)
    roles: list[list[int] | None] = field(default_factory=list)
    desirable: list[bool | None] = field(default_factory=list)
    specials: list[int] = field(default_factory=list)


def write_shard(path: Path, uncut: Uncut, extras: Extras) -> dict[str, int]:
    """Write rows as an Arrow file; returns its ``bytes`` and ``crc`` (CRC-32 of all of it)."""
    import numpy as np
    import pyarrow as pa

    def lists(values: np.ndarray[Any, Any], ends: np.ndarray[Any, Any]) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), pa.array(values.astype(np.int32, copy=False)))

    num_rows = len(uncut.row_ends) - 1
    columns: dict[str, Any] = {
        "ids": lists(uncut.ids, uncut.row_ends),
        "parts": lists(uncut.parts, uncut.part_ends),
        "row": pa.array(extras.rows, pa.uint32()),
    }
    if any(extras.leads):
        columns["lead"] = pa.array(extras.leads, pa.int32())
    if any(extras.weights):
        columns["weights"] = pa.array(extras.weights, pa.list_(pa.float32()))
    if any(extras.roles):
        columns["roles"] = pa.array(extras.roles, pa.list_(pa.int8()))
    if any(extras.specials):
        columns["specials"] = pa.array(extras.specials, pa.int32())
    if any(one is not None for one in extras.desirable):
        columns["desirable"] = pa.array(extras.desirable, pa.bool_())
    if uncut.faults:
        faults = [uncut.faults.get(row) for row in range(num_rows)]
        columns["fault"] = pa.array([fault and f"{fault.field}\t{fault.reason}" for fault in faults], pa.string())
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(num_rows, 1))
    content = memoryview(sink.getvalue())
    with atomic_file(path) as handle:
        handle.write(content)
    return {"bytes": len(content), "crc": zlib.crc32(content)}


class Shard:
    """A shard's columns as views of the mapped file."""

    def __init__(self, path: Path, *, num_bytes: int, crc: int) -> None:
        """Map the file. Raises ``UsageError`` where it is not what was written."""
        import numpy as np
        import pyarrow as pa

        check_file(path, num_bytes, crc)
        try:
            mapped = pa.memory_map(str(path))
            table = pa.ipc.open_file(mapped).read_all()
        except (pa.ArrowException, OSError) as error:
            raise damaged(path, str(error)) from None
        batch = table.combine_chunks().to_batches()[0] if table.num_rows else None
        self._held = mapped, table
        self.num_rows = table.num_rows
        named = {} if batch is None else dict(zip(batch.schema.names, batch.columns, strict=True))
        empty = np.zeros(1, np.int32)
        ids, parts = named.get("ids"), named.get("parts")
        self.ids = _numbers(ids.values) if ids is not None else empty[:0]
        self.ends = _numbers(ids.offsets) if ids is not None else empty
        self.parts = _numbers(parts.values) if parts is not None else empty[:0]
        self.part_ends = _numbers(parts.offsets) if parts is not None else empty
        self.rows = _numbers(named["row"]) if batch is not None else empty[:0]
        self.leads = _numbers(named["lead"]) if "lead" in named else None
        self.desirable = named.get("desirable")
        self.specials = _numbers(named["specials"]) if "specials" in named else None
        self.faults = {} if "fault" not in named else _faults(named["fault"].to_pylist())
        self._weights, self._roles = named.get("weights"), named.get("roles")

    @property
    def has_weights(self) -> bool:
        return self._weights is not None

    def weights(self, row: int) -> list[float] | None:
        """What each answer of a row counts; None where all count alike."""
        return None if self._weights is None else self._weights[row].as_py()

    def part_roles(self) -> np.ndarray[Any, Any]:
        """The role of every part of all rows as numbers in ``ROLES`` (int8), where each message is a part (``turns``);
        user and assistant in turn where nothing else is known."""
        import numpy as np

        counts = np.diff(self.part_ends)
        found = ((np.arange(len(self.parts)) - np.repeat(self.part_ends[:-1], counts)) % 2).astype(np.int8)
        if self._roles is not None:
            told = self._roles.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
            known = told == counts
            values = self._roles.flatten().to_numpy(zero_copy_only=False)
            found[np.repeat(known, counts)] = values[np.repeat(known[told >= 0], told[told >= 0])]
        return found

    def roles(self, row: int) -> list[int] | None:
        """Numbers in ``ROLES`` of a row's messages; None where user and assistant take turns."""
        return None if self._roles is None else self._roles[row].as_py()


def check_file(path: Path, num_bytes: int, crc: int) -> None:
    """Raise ``UsageError`` where a file is not what was written."""
    try:
        size = path.stat().st_size
        if size != num_bytes:
            raise damaged(path, f"it has {size:,} bytes, and {num_bytes:,} were written")
        if _crc_of(path) != crc:
            raise damaged(path, "its checksum is not that of what was written")
    except FileNotFoundError:
        raise damaged(path, "the file is gone") from None
    except OSError as error:
        raise damaged(path, str(error)) from None


def damaged(path: Path, why: str) -> UsageError:
    """The error for a file of the cache that cannot be trusted."""
    return UsageError(
        f"the encoded rows are damaged: {why}",
        where=str(path),
        mend=f"Remove the folder {path.parent}; it is made again.",
    )


def _crc_of(path: Path) -> int:
    """The checksum of a file, read and not mapped: pages that are looked at once would stay counted as ours."""
    crc, buffer = 0, bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as handle:
        while got := handle.readinto(buffer):
            crc = zlib.crc32(memoryview(buffer)[:got], crc)
    return crc


def _numbers(values: Any) -> Any:
    return values.to_numpy(zero_copy_only=True)


def _faults(texts: Sequence[str | None]) -> dict[int, RowFault]:
    found = {}
    for row, text in enumerate(texts):
        if text is not None:
            field_name, _, reason = text.partition("\t")
            found[row] = RowFault(field_name, reason)
    return found
