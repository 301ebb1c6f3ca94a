"""Tests of registry.templates."""
