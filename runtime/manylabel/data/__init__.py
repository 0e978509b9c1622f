"""Files of rows and the values in them. Independent of models.

In reading order:

    readers/          rows of CSV, TSV, JSON lines and Parquet files, one at a time or in Arrow blocks
    cell_validation   cells of labelled data: texts, splits, labels, 0/1 indicators; formulas are escaped here
    labeled_data      labelled texts from a file: what training, certify and tune read
    filesystem        paths and URIs: a local disk or an object store, with atomic writes
"""
