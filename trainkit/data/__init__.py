"""From dataset names to batches of tensors."""
