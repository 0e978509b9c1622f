"""int8_bakeoff."""
