"""The engine: a YAML in, a model out; then chat and export."""
