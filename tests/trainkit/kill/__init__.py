"""Runs that are killed, again and again, and must come to the end they would have come to."""
