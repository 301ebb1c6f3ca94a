"""64-bit hashes as new ones that show nothing of the old."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def mix(hashes: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (https://doi.org/10.1145/2660193.2660195), one to one; ``hashes`` are overwritten."""
    import numpy as np

    x = hashes
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x
