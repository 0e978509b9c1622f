"""serverless_cold_start."""
