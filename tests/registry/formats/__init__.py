"""Tests of registry.formats, one file for each of its modules."""
