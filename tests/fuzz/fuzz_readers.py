"""Coverage-guided fuzzing of the readers and of validate, by hand and for a bounded time:

    python tests/fuzz/fuzz_readers.py [--of readers|convert|validate] [--kind jsonl] [-max_total_time=60] [libFuzzer options]

It needs atheris (pip install atheris; Linux and macOS), which no test does. Only our own code and the parts of the
standard library written in Python are instrumented; what pyarrow, orjson and polars do is driven, not guided. A finding
stops it with a traceback and writes the bytes to ``crash-…``; run it with that file's name to see it again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("jsonl", "json", "csv", "tsv", "txt", "jsonl.gz", "jsonl.zst", "parquet", "arrow")


def main() -> None:
    """Fuzz until libFuzzer's own limits end it."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed; this fuzzer needs it:  pip install atheris")
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", choices=("readers", "convert", "validate"), default="readers")
    parser.add_argument("--kind", choices=KINDS, help="one kind of file; else the first byte chooses")
    options, others = parser.parse_known_args()
    with atheris.instrument_imports(include=["registry", "datakit", "json", "csv"]):
        from tests.fuzz import promises
        from tests.fuzz.seeds import seeds
    promises.be_quiet()
    os.fsync = lambda descriptor: None  # waiting for the disk would be nine tenths of the time
    check = {
        "readers": promises.reading_keeps_its_promises,
        "convert": promises.converting_keeps_its_promises,
        "validate": promises.validating_keeps_its_promises,
    }[options.of]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def test_one(data: bytes) -> None:
            kind = options.kind or (KINDS[data[0] % len(KINDS)] if data else KINDS[0])
            path = folder / f"rows.{kind}"
            path.write_bytes(data if options.kind else data[1:])
            check(path)

        corpus = folder / "corpus"
        corpus.mkdir()
        for number, (seed, content) in enumerate(seeds().items()):
            kind = seed.split(".", 1)[1]
            if options.kind in (None, kind):
                first = b"" if options.kind else bytes([KINDS.index(kind)])
                (corpus / str(number)).write_bytes(first + content)
        files = [] if any(not other.startswith("-") for other in others) else [str(corpus)]
        atheris.Setup([sys.argv[0], *others, *files], test_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
