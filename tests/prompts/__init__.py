"""Tests of the shipped recipe files."""
