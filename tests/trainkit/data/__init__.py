"""Tests of trainkit.data, one file a module of trainkit/data/."""
