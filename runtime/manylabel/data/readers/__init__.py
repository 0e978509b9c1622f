"""One reader per format, for training, certify, tune, drift and `manylabel score`.

In reading order:

    open_table       opens a path, a URI or a stream by format and compression; `read_rows` reads a whole file strictly
    table            the interface: a table yields rows with their location; text formats share a line reader
    csv, jsonl       the text formats, which need nothing but Python
    parquet          Parquet, by pyarrow
    type_inference   column types of JSON values, and one schema for several files
    block            Arrow blocks of rows with their texts, from any position on; used by `scoring` and `frames`

To add a format: a `Table` in a module of its own, an entry in `open_table.SUFFIXES`, and a case in `open_table`.
"""
