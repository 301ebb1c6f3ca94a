"""Token lengths as training will see them, and the cutoff_len that they suggest."""

from datakit.stats.cutoff import Steps
from datakit.stats.measure import Measured, measure_rows

__all__ = ["Measured", "Steps", "measure_rows"]
