"""Throughput: how many texts per second, and where does the time go? How does it scale with threads, length and batch?

The probabilities of the first round are those whose accuracy is reported beside the speed.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from manylabel_bench.runner.process import BenchContext, ContenderProcess, Samples
from manylabel_bench.runner.workload import LENGTHS, padding_share, write_texts

WARM_UP_TEXTS = 64
"""Texts scored first, so that nothing is initialised or compiled in the first round."""
TOKENS_PER_LENGTH = 8192
"""Tokens of all texts of one length together."""
CALL_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SINGLE_TEXTS = 200


def measure_throughput(context: BenchContext, processes: Sequence[ContenderProcess]) -> dict[str, Samples]:
    """Measure the seconds for all texts, and the stages and memory of one pass."""
    warm_up = write_texts(context.scratch / "warm.json", context.workload.data.texts[:WARM_UP_TEXTS])
    samples: dict[str, dict[str, list[Any]]] = {name: {} for name in ("bulk", "stages", "load", "batching")}
    for process in processes:
        process.request("bulk", warm_up)
        samples["load"][process.name] = [process.load_seconds]
        samples["batching"][process.name] = [_describe_batching(context, process.batching)]
    for _, process in context.take_turns(processes, "bulk"):
        answer = process.request("bulk", context.texts, scores_path(context, process.name))
        samples["bulk"].setdefault(process.name, []).append(answer)
    for process in processes:
        if stages := process.request("stages", context.texts)["stages"]:
            samples["stages"][process.name] = [stages]
    return samples


def measure_scaling(context: BenchContext, processes: Sequence[ContenderProcess]) -> dict[str, Samples]:
    """Measure texts and seconds by thread count, text length and call size, and single texts by length."""
    samples: dict[str, list[Any]] = {}
    _scale_length(context, processes, samples)
    _scale_call_size(context, processes, samples)
    for threads in _thread_counts(context.config.threads):
        with context.start_all(replace(context.config, threads=threads)) as others:
            _scale_threads(context, others, threads, samples)
    return {"scaling": samples}


def scores_path(context: BenchContext, name: str) -> Path:
    """Return the file with a contender's probabilities, shape `(n_texts, n_labels)`."""
    return context.scratch / f"{name.replace(' ', '-')}.npy"


def _describe_batching(context: BenchContext, batching: str) -> dict[str, Any]:
    """Return how a contender batches, and how many tokens and how much padding it computes for that."""
    lengths = np.minimum(context.workload.lengths, context.config.max_length)
    return {
        "batching": batching,
        "tokens": context.workload.count_tokens(batching),
        "padding_share": padding_share(lengths, batching),
    }


def _scale_threads(
    context: BenchContext, processes: Sequence[ContenderProcess], threads: int, samples: dict[str, list[Any]]
) -> None:
    for process in processes:
        process.request("bulk", context.texts)
    for _, process in context.take_turns(processes, f"{threads} threads"):
        seconds = process.request("bulk", context.texts)["seconds"]
        _add_sample(samples, process, by="threads", at=threads, texts=len(context.workload.data), seconds=seconds)


def _scale_length(context: BenchContext, processes: Sequence[ContenderProcess], samples: dict[str, list[Any]]) -> None:
    share = -(-SINGLE_TEXTS // context.rounds)
    for length in (length for length in LENGTHS if length <= context.workload.tokenizer.max_length):
        texts = context.workload.texts_of_length(length, max(8, TOKENS_PER_LENGTH // length))
        if not texts:
            continue
        path = write_texts(context.scratch / f"length{length}.json", texts)
        for process in processes:
            process.request("bulk", path)
        for number, process in context.take_turns(processes, f"{length} tokens"):
            seconds = process.request("bulk", path)["seconds"]
            singles = process.request("single", path, number * share, share, context.seconds / 4)["seconds"]
            sample = {"by": "length", "at": length, "texts": len(texts), "seconds": seconds, "singles": singles}
            _add_sample(samples, process, **sample)


def _scale_call_size(
    context: BenchContext, processes: Sequence[ContenderProcess], samples: dict[str, list[Any]]
) -> None:
    for size in (size for size in CALL_SIZES if size <= len(context.workload.data)):
        for _, process in context.take_turns(processes, f"{size} texts per call"):
            answer = process.request("calls", context.texts, size, context.seconds / len(CALL_SIZES))
            _add_sample(samples, process, by="call", at=size, **answer)


def _thread_counts(maximum: int) -> list[int]:
    """Return 1, 2, 4 and so on, and the maximum."""
    return sorted({*(2**power for power in range(maximum.bit_length()) if 2**power <= maximum), maximum})


def _add_sample(samples: dict[str, list[Any]], process: ContenderProcess, **sample: Any) -> None:
    samples.setdefault(process.name, []).append(sample)
