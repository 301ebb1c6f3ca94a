"""The augmentation prompts, as files."""
