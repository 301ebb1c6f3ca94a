"""Which answers a file names: the keys in the rows that were made of them, in its manifest, or in a plain list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from registry.errors import UsageError
from registry.rows import BadRow, read_rows

MANIFEST = ".manifest.json"
_KEY = re.compile("[0-9a-f]{32}")


def keys_named_in(files: Iterable[str | Path]) -> set[bytes]:
    """All texts of 32 hex digits in ``files``, wherever they stand: rows of any kind (``_origin`` names the answers of a
    row), text files with a key a line, and manifests, which stand for the outputs that they name as well.

    One that is no key does no harm: it is in no store. Raises ``UsageError`` where a file cannot be read, has a row that
    cannot be, or names no key at all, since then it is not what it was taken for.
    """
    keys: set[bytes] = set()
    for file in files:
        found = set(_keys_of(file))
        if not found:
            raise UsageError(
                "no answer is named in it",
                where=str(file),
                mend="Name rows that datakit augment wrote (with _origin), their manifest, or a .txt file with a key a line.",
            )
        keys |= found
    return keys


def _keys_of(file: str | Path) -> Iterator[bytes]:
    if str(file).endswith(MANIFEST):
        yield from _keys_of_manifest(Path(file))
        return
    for row in read_rows([file]):
        if isinstance(row, BadRow):
            raise UsageError(
                f"row {row.number} cannot be read ({row.reason}), so which answers it needs is not known",
                where=str(file),
            )
        yield from _keys_in(row.data)


def _keys_of_manifest(path: Path) -> Iterator[bytes]:
    try:
        manifest = orjson.loads(path.read_bytes())
        outputs = [Path(output["file"]) for output in manifest["outputs"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"this is no manifest that can be read ({error})", where=str(path)) from None
    yield from _keys_in(manifest)
    for output in outputs:
        # A folder may have moved since; its files then still lie beside their manifests.
        yield from _keys_of(output if output.exists() else path.with_name(output.name))


def _keys_in(value: Any) -> Iterator[bytes]:
    if isinstance(value, str):
        if _KEY.fullmatch(value):
            yield bytes.fromhex(value)
    elif isinstance(value, dict):
        for held in value.values():
            yield from _keys_in(held)
    elif isinstance(value, list):
        for held in value:
            yield from _keys_in(held)
