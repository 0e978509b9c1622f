"""The routes, one module a protocol."""
