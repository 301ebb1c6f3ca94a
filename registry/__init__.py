"""The contract between the kits: what a row, a record and an example are, and where data lies."""
