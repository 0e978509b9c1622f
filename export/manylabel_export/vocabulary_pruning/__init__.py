"""vocabulary_pruning."""
