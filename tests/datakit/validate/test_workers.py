"""What validate tells and writes is the same with any number of processes."""

from __future__ import annotations

import json
from pathlib import Path

from datakit.validate import validate_rows
from registry import blocks

GOOD = {"instruction": "Name a colour.", "input": "", "output": "Green."}


def test_several_processes_find_and_mend_what_one_does(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("datakit.validate.TEXT_BLOCK_SIZE", 700)
    odd = [
        {**GOOD, "output": ""},
        {**GOOD, "id": 3},
        {**GOOD, "output": "Write to ann.lee@company.org"},
        {**GOOD, "history": [["a", "b"]]},
        {**GOOD, "system": ""},
        {**GOOD, "output": "A broken \ufffd sign"},
    ]
    lines = [json.dumps({**GOOD, "id": n} if n % 5 else odd[n // 5 % len(odd)]) for n in range(150)]
    lines[77] = "no json"
    lines[78] = '{"instruction": "a", "output": "b", "output": "b"}'
    (tmp_path / "a.jsonl").write_text("\n".join(lines[:100]), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("\n".join(lines[100:] + lines[:3]), encoding="utf-8")
    found = []
    for workers in (1, 2):
        clean = tmp_path / f"{workers}.jsonl"
        outcome = validate_rows(
            [tmp_path / "a.jsonl", tmp_path / "b.jsonl"], stage="sft", clean=clean, fix=True, workers=workers,
            mapping={"prompt": "instruction", "response": "output"},
        )  # fmt: skip
        rejects = clean.with_name(clean.name + ".rejects.jsonl").read_bytes()
        found.append((outcome.details, outcome.rows_in, outcome.rows_out, clean.read_bytes(), rejects))
    assert found[0] == found[1]
    assert {fault["code"] for fault in found[0][0]["faults"]} >= {"RD007", "RD006", "AL004", "PD001"}
    assert blocks.BLOCK_SIZE > 700  # several blocks, so that several processes have some
