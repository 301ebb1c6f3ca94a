"""Data in, data out: convert, validate, measure, register and preview rows, and run whole pipelines of steps."""
