"""scoring_scaling."""
