"""Token lengths as training will see them, and the cutoff_len that they suggest."""

from datakit.stats.measure import Measured, measure_rows

__all__ = ["Measured", "measure_rows"]
