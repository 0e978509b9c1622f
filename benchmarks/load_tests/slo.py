"""The service level objectives of the server, and whether a result meets them."""

from collections.abc import Iterator
from typing import Any, TypedDict

from load_tests.baselines import FASTAPI_PIPELINE, INFINITY
from manylabel_bench.load.servers import MANYLABEL_SERVER


class SloResult(TypedDict):
    """An objective, the measured figure, and whether it meets the objective. The keys are those of `result.json`."""

    promise: str
    found: str
    held: bool


def check_slos(result: dict[str, Any]) -> list[SloResult]:
    """Return the objectives for the parts that were measured."""
    return [
        *(_speed_slos(result["speed"]) if "speed" in result else ()),
        *(_load_slos(result["load"]) if "load" in result else ()),
    ]


def _speed_slos(speed: dict[str, Any]) -> Iterator[SloResult]:
    added = speed["one_text"]["added_ms"]
    yield _slo("one text over HTTP: median at most 1 ms above that in the process", f"{added:+.2f} ms", added <= 1)
    rates = {name: measured["requests_per_second"] for name, measured in speed["rates"].items()}
    for baseline, minimum in ((FASTAPI_PIPELINE, 3.0), (INFINITY, 1.0)):
        if rates.get(baseline):
            ratio = rates[MANYLABEL_SERVER] / rates[baseline]
            objective = f"requests/s with p99 under 100 ms: at least {minimum:g}x those of {baseline}"
            yield _slo(objective, f"{ratio:.1f}x", ratio >= minimum)


def _load_slos(load: dict[str, Any]) -> Iterator[SloResult]:
    steady, overload, spike, slow = (load[name] for name in ("steady", "overload", "spike", "slow_sockets"))
    failed = steady["refused"] + steady["lost"]
    yield _slo("0.7 of capacity: nothing refused or lost", f"{failed} of {steady['sent']:,}", failed == 0)
    share = overload["share"]
    yield _slo("twice capacity: throughput at least 0.9 of capacity", f"{share:.2f}", share >= 0.9)
    p99, limit = overload["latency_ms"]["p99"], load["deadline_ms"] + load["one_text_ms"]
    objective = f"twice capacity: p99 of answered requests within the deadline plus one text, {limit:,.0f} ms"
    yield _slo(objective, f"{p99:,.0f} ms", p99 <= limit)
    rejection = overload["turned_away_ms"].get("p99", 0.0)
    yield _slo("twice capacity: rejected (429) in under 50 ms, p99", f"{rejection:.1f} ms", rejection < 50)
    yield from _surge_slos("twice capacity", overload)
    yield from _surge_slos("tenfold spike", spike)
    unanswered, slowest = spike["live_unanswered"], spike["live_ms"]["max"]
    yield _slo(
        "tenfold spike: the liveness probe answers within 1 s",
        f"{slowest:,.0f} ms at most, {unanswered} unanswered",
        unanswered == 0 and slowest < 1000,
    )
    rise = slow["rise"]
    yield _slo(f"{slow['sockets']} slow sockets: p99 rises by less than 20 %", f"{rise:+.0%}", rise < 0.2)


def _surge_slos(name: str, surge: dict[str, Any]) -> Iterator[SloResult]:
    yield _slo(f"{name}: nothing lost", str(surge["lost_in_all"]), surge["lost_in_all"] == 0)
    recovered = surge["normal_after_seconds"]
    yield _slo(
        f"{name}: back to normal within 10 s",
        "not in the time measured" if recovered is None else f"after {recovered:.0f} s",
        recovered is not None and recovered <= 10,
    )


def _slo(objective: str, figure: str, met: bool) -> SloResult:
    return {"promise": objective, "found": figure, "held": met}
