"""Tests of trainkit.reports: each tracker for real and offline, and the threads that keep them from the run."""
