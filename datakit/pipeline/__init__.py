"""Pipelines: the steps from raw rows to an answering model, strung together in one file."""

from datakit.pipeline.run import PipelineResult, run_pipeline

__all__ = ["PipelineResult", "run_pipeline"]
