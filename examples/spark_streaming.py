"""Answers to JSON lines as their files arrive, by Spark Structured Streaming.

Needs `pip install "manylabel[spark,cpu]"`, Java 17 or newer, and a bundle.

PYSPARK_PYTHON=python python examples/spark_streaming.py BUNDLE FOLDER-OF-JSONL OUTPUT

Each row comes out once, whatever dies on the way: the checkpoint knows which files were read, and the sink which of
its own count. For Kafka, take `.format("kafka").option("subscribe", TOPIC)` in place of the file source, and
`selectExpr("CAST(value AS STRING) AS text")` behind it.
"""

import sys

from pyspark.sql import SparkSession

from manylabel.engines.spark import score

bundle, folder, output = sys.argv[1:]
spark = SparkSession.builder.appName("manylabel").config("spark.ui.enabled", "false").getOrCreate()

arriving = spark.readStream.schema("id long, text string").json(folder)
answered = score(arriving, bundle)
query = (
    answered.writeStream.format("parquet")
    .option("path", output)
    .option("checkpointLocation", f"{output}/_checkpoint")
    .trigger(availableNow=True)  # what is there, then stop; without it, for ever
    .start()
)
query.awaitTermination()
