"""Tests of the encoded cache."""
