"""Files in, files out: score what does not fit in memory, lose no row, and go on after any interruption.

The way of the data, a module a step:

    inputs      arguments, folders, globs, standard input        -> files with a format
    rows        csv_rows, json_rows, parquet_rows                -> blocks of rows, each with a text or an error
    planning    one pass over the files                          -> shards: so many rows of a file, from an offset
    job         what is to be done, written down                 -> _manylabel/job.json, held against a later run
    shard       a shard, a classifier                            -> a part and its commit record; runs in any process
    watching    a child process that is watched                  -> retried, and a row that kills it is quarantined
    merging     parts and commit records                         -> one file

    tables      frames, and the batches of an engine             -> the same columns, with the answers

`columns` knows which columns there are, `parts` writes them, `storage` is where files lie: a disk or an object store.
"""

from importlib.util import find_spec

from manylabel.errors import MissingDependency
from manylabel.system.resource_errors import loading

if find_spec("pyarrow") is None:
    raise MissingDependency('manylabel[files] is required to score files or frames. pip install "manylabel[files,cpu]"')

ROOM = 256
"""MB that pyarrow takes when it is loaded: 223 with 26.0 at most."""

with loading("pyarrow", ROOM):
    from manylabel.scoring.job import Job, Options
    from manylabel.scoring.merge import merge
    from manylabel.scoring.shard import Commit, score_shard

__all__ = ["Commit", "Job", "Options", "merge", "score_shard"]
