"""A classifier in Celery's workers. Needs `pip install "manylabel[cpu]" celery`, a broker and a bundle.

BROKER=redis://localhost BUNDLE=build/demo/bundle celery --workdir examples --app celery_worker worker --concurrency 2
"""

import os
from functools import cache

from celery import Celery
from celery.signals import worker_process_init

from manylabel import Classifier

app = Celery("reviews", broker=os.environ["BROKER"], backend=os.environ.get("BACKEND", "rpc://"))


@cache
def classifier() -> Classifier:
    """Load one classifier per process, on one core each: a worker has as many processes as --concurrency."""
    return Classifier.load(os.environ["BUNDLE"], threads=1)


@worker_process_init.connect
def load(**_: object) -> None:
    """Load in each process after the fork: a classifier loaded before it would raise ForkedProcess."""
    classifier()


@app.task
def labels(texts: list[str]) -> list[list[str]]:
    """Return the labels of every text. A few hundred texts per task are faster than one: they are batched."""
    return classifier().predict(texts)
