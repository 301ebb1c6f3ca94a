"""What the first bytes of a text file tell before it is read: that it is no UTF-8, or no rows at all."""

from __future__ import annotations

import io
import re

from registry.errors import UsageError
from registry.magic import foreign_to

BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 1 << 16  # looked at; as many as are there at once

_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
# Four bytes of plain letters and signs as wider encodings spell them without a mark.
_UNMARKED = {
    re.compile(rb"[\t\n\r -~]\x00\x00\x00|\x00\x00\x00[\t\n\r -~]"): "UTF-32",
    re.compile(rb"([\t\n\r -~]\x00){2}|(\x00[\t\n\r -~]){2}"): "UTF-16",
}
_PAGE = re.compile(rb"\s*<(!doctype html|html|head|body|\?xml)\b", re.IGNORECASE)
_TABULAR = frozenset({"csv", "tsv", "json", "jsonl"})


def look_at_head(file: str, handle: io.BufferedReader, container: str) -> bytes:
    """The first bytes of a text file, left in place; a byte order mark is none of them and is passed over.

    Raises ``UsageError`` for other encodings than UTF-8, and for files that only their name makes a text.
    """
    head = handle.peek(HEAD_BYTES)[:HEAD_BYTES]
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    encoding = encoding or next((name for pattern, name in _UNMARKED.items() if pattern.match(head)), None)
    if encoding:
        raise UsageError(f"the file is {encoding}, not UTF-8", where=file, mend="Save it as UTF-8 and try again.")
    what = foreign_to(head, b"") or (_page(head) if container in _TABULAR else None)
    if what:
        raise UsageError(f"this is {what[0]}, not rows", where=file, mend=what[1])
    if head.startswith(BOM):
        handle.read(len(BOM))
        return head[len(BOM) :]
    return head


def _page(head: bytes) -> tuple[str, str] | None:
    if not _PAGE.match(head):
        return None
    return "a web page", "Perhaps an error or a login was saved in place of the data; fetch it again."
