"""Pipeline files that YAML itself stumbles over."""

from __future__ import annotations

from pathlib import Path

import pytest

from datakit.pipeline.spec import load_yaml
from registry.errors import UsageError


@pytest.mark.parametrize(
    "text", ["steps: 2024-99-99\n", f"steps: {'9' * 5000}\n", f"steps: {'[' * 3000}{']' * 3000}\n"]
)
def test_yaml_whose_values_cannot_be_built_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pipeline.yaml").write_text(text)
    with pytest.raises(UsageError, match="not YAML: a value that cannot be read"):
        load_yaml(tmp_path / "pipeline.yaml", "pipeline.yaml")
