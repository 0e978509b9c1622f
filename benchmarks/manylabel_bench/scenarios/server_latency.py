"""How long do users wait for the server at a constant rate of arrivals? Latency counts from when a request was due.

For the servers of others, and for overload, see `python -m load_tests`.
"""

import asyncio
from pathlib import Path
from typing import Any

from tqdm import tqdm

from manylabel_bench.load.open_loop import at_rate, saturated, summary
from manylabel_bench.load.servers import manylabel, started
from manylabel_bench.scenarios import Field, Samples

SHARES = (0.2, 0.4, 0.6, 0.8, 0.9)
"""Of what the server does at most."""
UNDER_WAY = 32


def measure(field: Field) -> dict[str, Samples]:
    """For every rate: answers a second and percentiles of the latency, of the variants of the bundle."""
    found: dict[str, list[Any]] = {}
    texts, seconds = field.workload.data.texts, field.seconds / 2
    for kind in (each for each in field.kinds if each.family == "ours"):
        options = ("--device", "cpu", "--precision", kind.variant, "--threads", str(field.setting.threads))
        server = manylabel(Path(field.setting.bundle), *options)
        with started(server, texts[0], field.scratch / "server.log") as up:
            target = up.target(texts)
            most = asyncio.run(saturated(target, UNDER_WAY, seconds))
            for share in tqdm(SHARES, desc=f"server, {kind.variant}", unit="rate"):
                outcomes = asyncio.run(at_rate(target, [(share * most, seconds)]))
                sample = {"share": share, "saturated_per_second": most, **summary(outcomes, seconds)}
                found.setdefault(kind.name, []).append(sample)
    return {"server": found}
