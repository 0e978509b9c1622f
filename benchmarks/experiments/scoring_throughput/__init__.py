"""scoring_throughput."""
