"""ort_settings."""
