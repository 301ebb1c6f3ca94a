"""Tests of datakit.validate."""
