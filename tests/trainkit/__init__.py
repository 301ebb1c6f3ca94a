"""Tests of trainkit, one file a module of trainkit/."""
