"""single_file."""
