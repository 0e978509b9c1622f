"""How much memory is held once all texts are scored, and does it grow when they come in another order?"""

import random
from typing import Any

from tqdm import tqdm

from manylabel_bench.runner.process import ContenderFailed, started
from manylabel_bench.runner.workload import write_texts
from manylabel_bench.scenarios import Field, Samples

PASSES = 3


def measure(field: Field) -> dict[str, Samples]:
    """Of a fresh process each: memory once loaded, and the most held after each shuffled pass, MB."""
    found: dict[str, list[Any]] = {}
    orders = [
        write_texts(field.scratch / f"shuffled{number}.json", random.Random(number).sample(texts, len(texts)))  # noqa: S311
        for texts in (field.workload.data.texts,)
        for number in range(PASSES)
    ]
    for kind in tqdm(field.kinds, desc="memory", unit="contender"):
        try:
            with started(kind, field.setting, field.texts) as turn:
                loaded = turn.ask("memory")["rss_mb"]
                passes = [turn.ask("bulk", texts)["peak_rss_mb"] for texts in orders]
        except ContenderFailed as exc:
            field.skipped[kind.name] = str(exc)
            continue
        found[kind.name] = [{"loaded_mb": loaded, "passes_mb": passes}]
    return {"memory": found}
