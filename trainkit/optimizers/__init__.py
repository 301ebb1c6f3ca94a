"""Optimizers: torch's, transformers' and those of libraries of their own, all built by ``build.build_optimizer``."""
