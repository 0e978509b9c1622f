"""ONNX graphs as data: read, edited and written.

In reading order: `external_data` (large weights in a file), `editor` (the graph editor that every pass uses) and
`serialization` (graphs to files and sessions).

Why not the library onnx-ir: ONNX Runtime's optimizer and converters, which run between our passes, take and return
`ModelProto`, so every pass would convert twice. And the conversion changes the file (onnx-ir 1.1 drops empty domains,
and adds a shape annotation per initializer), while an export of the same checkpoint has to give the same bytes.
"""
