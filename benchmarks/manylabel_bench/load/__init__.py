"""Load on an HTTP server: `open_loop` sends requests at a constant rate, `servers` starts the server to be measured."""
