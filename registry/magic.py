"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

_REWRITE = "Write its rows out as JSON lines or Parquet first."
_LFS = b"version https://git-lfs.github.com/spec/"
# first bytes -> (what holds them, the way out)
_MAGIC = {
    _LFS: ("a pointer of Git LFS", "Fetch the file behind it:  git lfs pull"),
    b"PK\x03\x04": ("a zip archive", "Unpack it first."),
    b"\x1f\x8b": ("a gzip file", "Name it .gz, or unpack it first."),
    b"\x28\xb5\x2f\xfd": ("a zstd file", "Name it .zst, or unpack it first."),
    b"PAR1": ("Parquet", "Name it .parquet."),
    b"ARROW1": ("Arrow", "Name it .arrow."),
    b"\xfd7zXZ\x00": ("an xz file", "Unpack it first."),
    b"BZh91AY&SY": ("a bzip2 file", "Unpack it first."),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "Unpack it first."),
    b"\x04\x22\x4d\x18": ("an lz4 file", "Unpack it first."),
    b"SQLite format 3\x00": ("an SQLite database", "Write its rows out first, for example with  sqlite3 -json"),
    b"%PDF-": ("a PDF document", "Its text has to be taken out first."),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an old Office document", "Save its rows as CSV first."),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", _REWRITE),
    b"\x93NUMPY": ("a NumPy array", _REWRITE),
    b"Obj\x01": ("an Avro file", _REWRITE),
    b"ORC": ("an ORC file", _REWRITE),
}


def foreign_to(head: bytes, own: bytes) -> tuple[str, str] | None:
    """What a file that begins with ``head`` is, and the way out; None where that does not show or is ``own``."""
    return next((what for magic, what in _MAGIC.items() if magic != own and head.startswith(magic)), None)
