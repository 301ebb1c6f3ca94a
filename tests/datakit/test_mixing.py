"""Hashes that are mixed once more."""

from __future__ import annotations

import numpy as np

from datakit.mixing import mix


def test_the_first_numbers_of_splitmix64_come_out():
    """Seed 0 steps by 0x9E3779B97F4A7C15; numbers from the reference code, https://prng.di.unimi.it/splitmix64.c."""
    steps = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert mix(steps).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
