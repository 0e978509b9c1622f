"""Score files of any size into files: no row is lost, and an interrupted run resumes. Needs pyarrow.

In reading order, as the data flows:

    planner             arguments, folders, globs, standard input  -> files, cut into shards in one pass
    job                 the job specification                      -> _manylabel/job.json, compared with a later run's
    shard               one shard and a classifier                 -> a part and its commit record, in any process
    writers             rows and their predictions                 -> Parquet, CSV or JSON lines
    worker              the process that scores: JSON lines on standard input, JSON lines on standard output
    worker_supervisor   restarts that process, retries its shard, and quarantines a row that crashes it
    merge               parts and commit records                   -> one file
    run                 a whole run: plan or resume, score, merge
    cli                 `manylabel score` and `manylabel merge`

Lower layers: `data.readers` reads the files, `data.filesystem` finds and writes them on disks and in object stores, and
`frames.prediction_columns` defines the columns that predictions add.
"""

from manylabel.frames import PYARROW_MB
from manylabel.system.resource_errors import memory_for_import

with memory_for_import("pyarrow", PYARROW_MB):
    from manylabel.scoring.job import Job, ScoreOptions
    from manylabel.scoring.merge import merge_parts
    from manylabel.scoring.shard import CommitRecord, score_shard

__all__ = ["CommitRecord", "Job", "ScoreOptions", "merge_parts", "score_shard"]
