"""Tests of registry, one file for each of its modules."""
