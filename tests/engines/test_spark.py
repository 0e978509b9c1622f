"""A real local Spark: the command line's predictions, workers that die, and a stream."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engines.conftest import ROOT, ROWS, assert_same_answers, scored_by_command

from manylabel.errors import DataError, InputError, UnknownLabel

pytest.importorskip("pyspark")
pa = pytest.importorskip("pyarrow")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets that Spark's gateway leaves to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def spark(hostile: Path) -> Iterator[Any]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable  # else Spark takes the first python3 of the path
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "512m",
        "spark.sql.shuffle.partitions": "2",
        "spark.task.cpus": "2",
    }
    builder = SparkSession.builder.master("local[2,4]")  # two cores, four tries of a task
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def rows(spark: Any, given: list[dict[str, Any]]) -> Any:
    return spark.createDataFrame(given, "id long, text string").repartition(3)


def test_data_frame_matches_the_command_line(spark: Any, bundle: Path, expected: Any) -> None:
    from manylabel.engines.spark import score

    assert_same_answers(score(rows(spark, ROWS), bundle).toArrow(), expected)


def test_output_options_match_the_command_line(spark: Any, bundle: Path, tmp_path: Path) -> None:
    from manylabel.engines.spark import score

    form = ("--probabilities", "list", "--prefix", "x_", "--threshold", "0.3")
    wanted = scored_by_command(bundle, tmp_path, *form)
    found = score(rows(spark, ROWS), bundle, probabilities="list", prefix="x_", thresholds=0.3).toArrow()
    assert found.column_names == wanted.column_names
    names = [name.removeprefix("x_") for name in wanted.column_names]
    assert_same_answers(found.rename_columns(names), wanted.rename_columns(names))


def test_task_of_dead_spark_worker_is_scored_once(spark: Any, bundle: Path, hostile: Path, tmp_path: Path) -> None:
    from manylabel.engines.spark import score

    hostile.unlink(missing_ok=True)
    score(rows(spark, [{"id": n, "text": f"ONCE {n}"} for n in range(100)]), bundle).write.parquet(
        str(tmp_path / "out")
    )
    assert hostile.exists()
    found = spark.read.parquet(str(tmp_path / "out"))
    assert sorted(row.id for row in found.collect()) == list(range(100))
    assert found.where("error is not null").count() == 0


def test_spark_worker_loads_the_model_once_after_fork(spark: Any, bundle: Path) -> None:
    from manylabel.engines.model_spec import ModelSpec

    spec = ModelSpec.from_bundle(bundle, device="cpu")

    def look(partition: Any) -> Iterator[Any]:
        from pyspark import TaskContext

        before = "onnxruntime" in sys.modules
        classifier = spec.with_threads(TaskContext.get().cpus()).load_classifier()
        yield os.getpid(), before, id(classifier), classifier.threads, os.getppid()

    found = [spark.sparkContext.parallelize(range(2), 1).mapPartitions(look).collect()[0] for _ in range(3)]
    (worker, before, loaded, threads, daemon), *later = found
    assert (before, threads) == (False, 2)
    assert worker not in (daemon, os.getpid())
    assert all((again[0], again[2]) == (worker, loaded) for again in later)


def test_invalid_arguments_fail_before_any_work(spark: Any, bundle: Path, tmp_path: Path) -> None:
    from manylabel.engines.spark import score

    given = rows(spark, ROWS[:3])
    for fault, sentence in (
        ({"text_column": "words"}, "no column 'words'"),
        ({"text_column": "id"}, "is bigint, not string"),
    ):
        with pytest.raises(DataError, match=sentence):
            score(given, bundle, **fault)
    with pytest.raises(DataError, match="columns named 'error'"):
        score(given.withColumnRenamed("id", "error"), bundle)
    with pytest.raises(UnknownLabel, match="no label 'prize'"):
        score(given, bundle, thresholds={"prize": 0.5})
    with pytest.raises(InputError, match="there is no bundle"):
        score(given, tmp_path / "none")


def test_empty_data_frame_loads_no_model(spark: Any, bundle: Path) -> None:
    from manylabel.engines.spark import score

    assert score(rows(spark, []), bundle).count() == 0


def test_streaming_example_scores_each_file_once(bundle: Path, tmp_path: Path, hostile: Path) -> None:
    """As a user runs it: two files, then a third one after a restart."""
    given, output = tmp_path / "in", tmp_path / "out"
    given.mkdir()
    for number in range(3):
        if number == 2:
            stream(bundle, given, output)
        lines = (json.dumps({"id": number * 10 + n, "text": f"late {n}"}) + "\n" for n in range(10))
        (given / f"{number}.jsonl").write_text("".join(lines))
    stream(bundle, given, output)
    import pyarrow.dataset

    found = pyarrow.dataset.dataset(str(output), format="parquet", exclude_invalid_files=True).to_table()
    assert sorted(found["id"].to_pylist()) == list(range(30))
    assert found["error"].null_count == 30


def stream(bundle: Path, given: Path, output: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "examples" / "spark_streaming.py", *map(str, (bundle, given, output))],
        check=True,
        capture_output=True,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
    )
