"""Tests of datakit, one file for each of its modules."""
