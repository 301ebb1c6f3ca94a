"""A server that fails in every way an LLM server does, driven by scenarios as data; see README.md beside this file."""
