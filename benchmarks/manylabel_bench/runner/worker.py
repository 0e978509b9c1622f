"""One contender in a process of its own: loads, then does what each line of standard input says, a JSON list.

    ["bulk", TEXTS, SCORES]      score all texts of a file, tell the seconds, write the probabilities
    ["single", TEXTS, FROM, N, SECONDS]  score texts one at a time, N of them or as many as fit; tell each one's seconds
    ["calls", TEXTS, SIZE, SECONDS]      score SIZE texts a call for so long; tell texts and seconds
    ["stages", TEXTS]            tell the seconds of tokenising and running, one after the other; null if they are one
    ["memory"]                   tell the memory that is held and the most that was

TEXTS is a file with a JSON list. Every answer is one line of JSON on standard output, the first of them the load time.
Started with `--once FILE` it answers the first text of a file and ends; `--prepare` makes the contender's own files.
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

from manylabel_bench.contenders import Contender, Setting, kind_of


def main() -> None:
    """Serve one contender until standard input ends."""
    warnings.simplefilter("ignore")
    name, setting = sys.argv[1], Setting(**json.loads(sys.argv[2]))
    kind = kind_of(name)
    if sys.argv[3:] == ["--prepare"]:
        kind.module().prepare(kind.variant, setting)
        return
    started = time.perf_counter()
    contender = kind.load(setting)
    contender.scores(_texts(sys.argv[4])[:1])
    _say({"load_seconds": time.perf_counter() - started, "batching": contender.batching})
    if sys.argv[3] == "--once":
        return
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        _say(COMMANDS[command](contender, *arguments))


def _bulk(contender: Contender, texts: str, scores: str | None = None) -> dict[str, Any]:
    import numpy as np

    several = _texts(texts)
    started = time.perf_counter()
    found = contender.scores(several)
    seconds = time.perf_counter() - started
    if scores:
        np.save(scores, found)
    return {"seconds": seconds, **_memory(contender)}


def _single(contender: Contender, texts: str, start: int, number: int, limit: float = float("inf")) -> dict[str, Any]:
    """Texts in turn from the `start`th on, from the beginning again where they end."""
    several = _texts(texts)
    seconds: list[float] = []
    end = time.perf_counter() + limit
    for text in islice(cycle(several), start % len(several), start % len(several) + number):
        seconds.append(_time(contender, [text]))
        if time.perf_counter() > end:
            break
    return {"seconds": seconds}


def _calls(contender: Contender, texts: str, size: int, limit: float) -> dict[str, Any]:
    several = _texts(texts)
    seconds, done = 0.0, 0
    while seconds < limit:
        start = done % max(1, len(several) - size + 1)
        seconds += _time(contender, several[start : start + size])
        done += min(size, len(several))
    return {"texts": done, "seconds": seconds}


def _stages(contender: Any, texts: str) -> dict[str, Any]:
    if not hasattr(contender, "tokenise"):
        return {"stages": None}
    several = _texts(texts)
    times = [time.perf_counter()]
    tokens = contender.tokenise(several)
    times.append(time.perf_counter())
    scores = contender.run(tokens)
    times.append(time.perf_counter())
    _ = [row.nonzero()[0].tolist() for row in scores >= 0.5]
    times.append(time.perf_counter())
    names = ("tokenise", "run", "decide")
    return {"stages": {name: b - a for name, a, b in zip(names, times, times[1:], strict=False)}}


def _memory(contender: Contender) -> dict[str, float]:
    """Resident memory now and at most, MB. Not `getrusage`: its figure is inherited from the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {
        name: int(fields[field].split()[0]) / 1024 for name, field in (("rss_mb", "VmRSS"), ("peak_rss_mb", "VmHWM"))
    }


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "bulk": _bulk,
    "single": _single,
    "calls": _calls,
    "stages": _stages,
    "memory": _memory,
}


def _time(contender: Contender, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    contender.scores(texts)
    return time.perf_counter() - started


@cache
def _texts(path: str) -> list[str]:
    texts: list[str] = json.loads(Path(path).read_text(encoding="utf-8"))
    return texts


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
