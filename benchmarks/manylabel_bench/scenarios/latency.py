"""Latency: how long does one text take, in the process, and over HTTP at a constant arrival rate?

In the process, texts come one at a time, in short turns. Over HTTP, latency counts from the moment at which a request
was due. `python -m load_tests` measures other servers and overload.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from manylabel_bench.load.open_loop import measure_saturation, send_at_rate, summarize_outcomes
from manylabel_bench.load.servers import manylabel_server, start_server
from manylabel_bench.runner.process import BenchContext, ContenderProcess, Samples

SINGLE_TEXTS = 2000
"""Texts for each contender, if the time suffices: about twenty lie beyond the 99th percentile."""
WARM_UP_TEXTS = 20

LOAD_SHARES = (0.2, 0.4, 0.6, 0.8, 0.9)
"""Arrival rates as shares of the server's saturated rate."""
CONCURRENT_REQUESTS = 32


def measure_latency(context: BenchContext, processes: Sequence[ContenderProcess]) -> dict[str, Samples]:
    """Measure the seconds of each text."""
    samples: dict[str, list[Any]] = {}
    share = -(-SINGLE_TEXTS // context.rounds)
    for process in processes:
        process.request("single", context.texts, 0, WARM_UP_TEXTS, context.seconds)
    for number, process in context.take_turns(processes, "single"):
        answer = process.request("single", context.texts, number * share, share, context.seconds)
        samples.setdefault(process.name, []).extend(round(seconds, 7) for seconds in answer["seconds"])
    return {"single": samples}


def measure_server_latency(context: BenchContext) -> dict[str, Samples]:
    """Measure answers per second and latency at each rate, for the bundle's variants in `manylabel serve`."""
    samples: dict[str, list[Any]] = {}
    texts, seconds = context.workload.data.texts, context.seconds / 2
    for spec in (spec for spec in context.contenders if spec.family == "manylabel"):
        options = ("--device", "cpu", "--precision", spec.variant, "--threads", str(context.config.threads))
        server_spec = manylabel_server(Path(context.config.bundle), *options)
        with start_server(server_spec, texts[0], context.scratch / "server.log") as server:
            stream = server.request_stream(texts)
            saturated = asyncio.run(measure_saturation(stream, CONCURRENT_REQUESTS, seconds))
            for share in tqdm(LOAD_SHARES, desc=f"server, {spec.variant}", unit="rate"):
                outcomes = asyncio.run(send_at_rate(stream, [(share * saturated, seconds)]))
                summary = summarize_outcomes(outcomes, seconds)
                sample = {"share": share, "saturated_per_second": saturated, **summary}
                samples.setdefault(spec.name, []).append(sample)
    return {"server": samples}
