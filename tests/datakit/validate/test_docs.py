"""The published table of codes is that of the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "docs" / "make_codes.py"


def test_the_page_has_every_code_with_its_level_and_mend() -> None:
    ran = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"run  python docs/make_codes.py\n{ran.stderr}"
