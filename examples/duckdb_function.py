"""A classifier as an SQL function in DuckDB. Needs `pip install "manylabel[files,cpu]" duckdb` and a bundle.

python examples/duckdb_function.py BUNDLE examples/reviews.csv
"""

import sys

import duckdb
import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

from manylabel import Classifier

classifier = Classifier.load(sys.argv[1])


def labels(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the labels of a few thousand texts at a time; null for a null text."""
    return classifier.predict_frame(pa.table({"text": texts}), probabilities="none")["labels"]


database = duckdb.connect()
database.create_function(
    "labels", labels, [DuckDBPyType(str)], DuckDBPyType(list[str]), type="arrow", null_handling="special"
)
counts = database.execute(
    """
    SELECT label, count(*) AS reviews
    FROM (SELECT unnest(labels(text)) AS label FROM read_csv(?))
    GROUP BY label ORDER BY reviews DESC, label
    """,
    [sys.argv[2]],
)
for label, reviews in counts.fetchall():
    print(f"{reviews:5}  {label}")

# Or score the whole frame at once, with probabilities: DuckDB reads the Arrow table by its name.
scored = classifier.predict_frame(database.sql(f"SELECT text FROM read_csv('{sys.argv[2]}')"))
((n_scored,),) = database.sql("SELECT count(*) FROM scored WHERE error IS NULL").fetchall()
print(n_scored, "texts scored")
