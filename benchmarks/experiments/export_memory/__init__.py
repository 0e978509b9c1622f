"""export_memory."""
