"""Score JSON lines files as they arrive, with Spark Structured Streaming.

Needs `pip install "manylabel[spark,cpu]"`, Java 17 or newer, and a bundle.

PYSPARK_PYTHON=python python examples/spark_streaming.py BUNDLE FOLDER-OF-JSONL OUTPUT

Each row is written exactly once, also after a failure: the checkpoint records which files were read, and the sink
which of its files are committed. For Kafka, replace the file source by `.format("kafka").option("subscribe", TOPIC)`
and add `.selectExpr("CAST(value AS STRING) AS text")`.
"""

import sys

from pyspark.sql import SparkSession

from manylabel.engines.spark import score

bundle, folder, output = sys.argv[1:]
spark = SparkSession.builder.appName("manylabel").config("spark.ui.enabled", "false").getOrCreate()

arriving = spark.readStream.schema("id long, text string").json(folder)
scored = score(arriving, bundle)
query = (
    scored.writeStream.format("parquet")
    .option("path", output)
    .option("checkpointLocation", f"{output}/_checkpoint")
    .trigger(availableNow=True)  # score the existing files, then stop; without it, run until stopped
    .start()
)
query.awaitTermination()
