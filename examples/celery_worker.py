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
    """One a process, and one core for each: a worker has as many processes as --concurrency says."""
    return Classifier.load(os.environ["BUNDLE"], threads=1)


@worker_process_init.connect
def load(**_: object) -> None:
    """Load in each process once it was forked: what was loaded before would be refused there (ForkedProcess)."""
    classifier()


@app.task
def labels(texts: list[str]) -> list[list[str]]:
    """The labels of every text. Some hundred texts a task are better than one: they are answered together."""
    return classifier().predict(texts)
