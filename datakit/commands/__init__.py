"""The verbs of datakit: each parses its options, calls one function, and prints what came of it."""
