"""Tests of trainkit.backends, one file a module of trainkit/backends/."""
