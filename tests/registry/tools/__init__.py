"""Tests of registry.tools."""
