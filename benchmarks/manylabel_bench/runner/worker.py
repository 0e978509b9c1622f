"""The program of a contender's process: reads JSON lines on stdin, writes JSON lines on stdout.

    ["bulk", TEXTS, SCORES]              score all texts of a file; return the seconds, write the probabilities
    ["single", TEXTS, FROM, N, SECONDS]  score up to N texts one at a time; return the seconds of each
    ["calls", TEXTS, SIZE, SECONDS]      score SIZE texts per call for SECONDS; return texts and seconds
    ["stages", TEXTS]                    return the seconds of tokenisation, inference and thresholding; null if the
                                         contender cannot separate them
    ["memory"]                           return current and peak resident memory

TEXTS is a file with a JSON list. Every answer is one JSON line; the first holds the load time. With `--once FILE` the
process scores the first text of a file and exits; with `--prepare` it writes the contender's own files and exits.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from manylabel_bench.contenders.registry import Contender, ContenderConfig, find_contender


def main() -> None:
    """Serve one contender until standard input ends."""
    warnings.simplefilter("ignore")
    config = ContenderConfig(**json.loads(sys.argv[2]))
    spec = find_contender(sys.argv[1])
    if sys.argv[3:] == ["--prepare"]:
        spec.import_family().prepare(spec.variant, config)
        return
    started = time.perf_counter()
    contender = spec.load(config)
    contender.predict_proba(_read_texts(sys.argv[4])[:1])
    _write_answer({"load_seconds": time.perf_counter() - started, "batching": contender.batching})
    if sys.argv[3] == "--once":
        return
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        _write_answer(COMMANDS[command](contender, *arguments))


def _score_bulk(contender: Contender, path: str, output: str | None = None) -> dict[str, Any]:
    import numpy as np

    texts = _read_texts(path)
    started = time.perf_counter()
    scores = contender.predict_proba(texts)
    seconds = time.perf_counter() - started
    if output:
        np.save(output, scores)
    return {"seconds": seconds, **_read_memory(contender)}


def _score_single(
    contender: Contender, path: str, start: int, number: int, limit: float = float("inf")
) -> dict[str, Any]:
    """Score texts one at a time from number `start` on; after the last text the first one follows."""
    texts = _read_texts(path)
    seconds: list[float] = []
    end = time.perf_counter() + limit
    for text in islice(cycle(texts), start % len(texts), start % len(texts) + number):
        seconds.append(_time_call(contender, [text]))
        if time.perf_counter() > end:
            break
    return {"seconds": seconds}


def _score_calls(contender: Contender, path: str, size: int, limit: float) -> dict[str, Any]:
    texts = _read_texts(path)
    seconds, scored = 0.0, 0
    while seconds < limit:
        start = scored % max(1, len(texts) - size + 1)
        seconds += _time_call(contender, texts[start : start + size])
        scored += min(size, len(texts))
    return {"texts": scored, "seconds": seconds}


def _time_stages(contender: Any, path: str) -> dict[str, Any]:
    if not hasattr(contender, "tokenise"):
        return {"stages": None}
    texts = _read_texts(path)
    times = [time.perf_counter()]
    tokens = contender.tokenise(texts)
    times.append(time.perf_counter())
    scores = contender.run(tokens)
    times.append(time.perf_counter())
    _ = [row.nonzero()[0].tolist() for row in scores >= 0.5]
    times.append(time.perf_counter())
    names = ("tokenise", "run", "decide")
    return {"stages": {name: b - a for name, a, b in zip(names, times, times[1:], strict=False)}}


def _read_memory(contender: Contender) -> dict[str, float]:
    """Return current and peak resident memory in MB. Not from `getrusage`, whose peak is inherited from the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {
        name: int(fields[field].split()[0]) / 1024 for name, field in (("rss_mb", "VmRSS"), ("peak_rss_mb", "VmHWM"))
    }


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "bulk": _score_bulk,
    "single": _score_single,
    "calls": _score_calls,
    "stages": _time_stages,
    "memory": _read_memory,
}


def _time_call(contender: Contender, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    contender.predict_proba(texts)
    return time.perf_counter() - started


@cache
def _read_texts(path: str) -> list[str]:
    texts: list[str] = json.loads(Path(path).read_text(encoding="utf-8"))
    return texts


def _write_answer(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
