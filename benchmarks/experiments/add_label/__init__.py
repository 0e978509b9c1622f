"""add_label."""
