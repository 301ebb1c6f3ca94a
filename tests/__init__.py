"""Tests, laid out as the packages are; a package itself so that equal file names do not meet."""
