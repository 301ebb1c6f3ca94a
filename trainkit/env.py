"""The versions of everything that matters to a bug report."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from registry.manifest import tool_version

PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "pyarrow", "orjson", "typer", "rich")


def describe_environment() -> dict[str, str]:
    """Name → version, with the machine's cores and accelerator."""
    found = {
        "tunekit": tool_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": str(os.cpu_count()),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if found["torch"] != "not installed":
        import torch

        found["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found
