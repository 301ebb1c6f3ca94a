"""Pipeline files that YAML itself stumbles over."""

from __future__ import annotations

from pathlib import Path

import pytest

from datakit.pipeline.spec import load_yaml, read_pipeline
from registry.errors import UsageError


@pytest.mark.parametrize(
    "text", ["steps: 2024-99-99\n", f"steps: {'9' * 5000}\n", f"steps: {'[' * 3000}{']' * 3000}\n"]
)
def test_yaml_whose_values_cannot_be_built_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pipeline.yaml").write_text(text)
    with pytest.raises(UsageError, match="not YAML: a value that cannot be read"):
        load_yaml(tmp_path / "pipeline.yaml", "pipeline.yaml")


def test_two_steps_that_write_the_same_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (tmp_path / "p.yaml").write_text(
        "steps:\n  - convert: {src: rows.jsonl, out: a.jsonl}\n  - convert: {src: rows.jsonl, out: ./a.jsonl}\n"
    )
    with pytest.raises(UsageError, match=r"step 2 .* writes a\.jsonl, which step 1 .* writes too"):
        read_pipeline("p.yaml")
