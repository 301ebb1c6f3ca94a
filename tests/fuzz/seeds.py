"""Good files of every kind, small, for mutation to start from."""

from __future__ import annotations

import gzip
import io
import json
from functools import cache
from typing import Any

ROWS: list[dict[str, Any]] = [
    {"instruction": "Hi", "input": "", "output": "Ho"},
    {"instruction": "你好", "input": "é", "output": "a\nb", "n": 1.5, "list": [1, None, {"k": "v"}]},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": "[]"},
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "id": 2**64},
    {"instruction": "q", "chosen": "a", "rejected": "b"},
    {"text": '\\"{}[],:\u2028'},
]
CSV = b'instruction,input,output\r\nHi,,Ho\n"a ""b""",\xc3\xa9,"c\nd"\n'


@cache
def seeds() -> dict[str, bytes]:
    """File name to content."""
    jsonl = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS)
    return {
        "a.jsonl": jsonl,
        "a.json": json.dumps(ROWS, indent=1).encode(),
        "b.json": b"".join(json.dumps(row, indent=2).encode() for row in ROWS),
        "a.csv": CSV,
        "a.tsv": CSV.replace(b",", b"\t"),
        "a.txt": b"\xef\xbb\xbfone\r\ntwo\rthree \xe4\xbd\xa0\n\n",
        "a.parquet": _parquet("none"),
        "b.parquet": _parquet("zstd"),
        "a.arrow": _arrow("file"),
        "b.arrow": _arrow("stream"),
        "a.jsonl.gz": gzip.compress(jsonl, mtime=0) + gzip.compress(jsonl, mtime=0),
        "a.jsonl.zst": _zst(jsonl) + _zst(jsonl),
    }


def _table() -> Any:
    import pyarrow as pa

    columns = {
        "instruction": ["q", None, "é" * 20],
        "output": ["a", "b", "c"],
        "n": pa.array([1, None, 3]),
        "x": pa.array([0.5, float("nan"), None]),
        "when": pa.array([1, 2, None], pa.timestamp("ns", "UTC")),
        "raw": pa.array([b"\x00", None, b"\xff"]),
        "turns": [[{"from": "human", "value": "q"}], [], None],
        "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
    }
    return pa.table(columns)


def _parquet(compression: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = pa.BufferOutputStream()
    pq.write_table(_table(), target, compression=compression, row_group_size=2)
    return bytes(target.getvalue().to_pybytes())


def _arrow(layout: str) -> bytes:
    import pyarrow as pa

    target, table = io.BytesIO(), _table()
    with (pa.ipc.new_file if layout == "file" else pa.ipc.new_stream)(target, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return target.getvalue()


def _zst(data: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.compress(data, codec="zstd", asbytes=True))
