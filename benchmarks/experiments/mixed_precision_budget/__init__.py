"""mixed_precision_budget."""
