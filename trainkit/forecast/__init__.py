"""What a run will take of memory, time and disk, told from its config before a weight is loaded."""
