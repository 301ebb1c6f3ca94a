"""Tests of the benchmarks: that their sides do the same work, on tiny models."""
