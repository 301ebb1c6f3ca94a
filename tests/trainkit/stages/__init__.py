"""Tests of trainkit.stages, one file a module of trainkit/stages/."""
