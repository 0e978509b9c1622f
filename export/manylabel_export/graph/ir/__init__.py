"""ONNX graphs as data: read, edited and written.

In reading order: `external_data` (large weights in a file), `editor` (the graph editor that every pass uses) and
`serialization` (graphs to files and sessions).
"""
