"""What was promised of the server, and what was found of it."""

from collections.abc import Iterator
from typing import Any, TypedDict

PIPELINE = "FastAPI + transformers.pipeline"
INFINITY = "infinity-emb"
OURS = "manylabel serve"


class Promise(TypedDict):
    """A promise, the figure that it is judged by, and whether it was kept."""

    promise: str
    found: str
    held: bool


def judged(result: dict[str, Any]) -> list[Promise]:
    """The promises about what was measured."""
    return [
        *(_of_speed(result["speed"]) if "speed" in result else ()),
        *(_of_load(result["load"]) if "load" in result else ()),
    ]


def _of_speed(speed: dict[str, Any]) -> Iterator[Promise]:
    added = speed["one_text"]["added_ms"]
    yield _promise(
        "one text over HTTP: median at most 1 ms above the one in the process", f"{added:+.2f} ms", added <= 1
    )
    rates = {name: each["requests_per_second"] for name, each in speed["rates"].items()}
    for rival, least in ((PIPELINE, 3.0), (INFINITY, 1.0)):
        if rates.get(rival):
            ratio = rates[OURS] / rates[rival]
            yield _promise(
                f"requests/s with p99 under 100 ms: at least {least:g}x those of {rival}",
                f"{ratio:.1f}x",
                ratio >= least,
            )


def _of_load(load: dict[str, Any]) -> Iterator[Promise]:
    steady, overload, spike, slow = (load[name] for name in ("steady", "overload", "spike", "slow_sockets"))
    gone = steady["refused"] + steady["lost"]
    yield _promise("0.7 of capacity: nothing refused or lost", f"{gone} of {steady['sent']:,}", gone == 0)
    share = overload["share"]
    yield _promise("twice capacity: throughput at least 0.9 of it", f"{share:.2f}", share >= 0.9)
    p99, limit = overload["latency_ms"]["p99"], load["deadline_ms"] + load["one_text_ms"]
    yield _promise(
        f"twice capacity: p99 of the answered within the deadline and one text, {limit:,.0f} ms",
        f"{p99:,.0f} ms",
        p99 <= limit,
    )
    away = overload["turned_away_ms"].get("p99", 0.0)
    yield _promise("twice capacity: turned away (429) in under 50 ms, p99", f"{away:.1f} ms", away < 50)
    yield from _of_surge("twice capacity", overload)
    yield from _of_surge("tenfold", spike)
    dead, slowest = spike["live_unanswered"], spike["live_ms"]["max"]
    yield _promise(
        "tenfold: says within 1 s that it lives",
        f"{slowest:,.0f} ms at most, {dead} unanswered",
        dead == 0 and slowest < 1000,
    )
    rise = slow["rise"]
    yield _promise(f"{slow['sockets']} slow sockets: p99 rises by less than 20 %", f"{rise:+.0%}", rise < 0.2)


def _of_surge(name: str, surge: dict[str, Any]) -> Iterator[Promise]:
    yield _promise(f"{name}: nothing lost", str(surge["lost_in_all"]), surge["lost_in_all"] == 0)
    back = surge["normal_after_seconds"]
    yield _promise(
        f"{name}: back to normal within 10 s",
        "not in the time measured" if back is None else f"after {back:.0f} s",
        back is not None and back <= 10,
    )


def _promise(promise: str, found: str, held: bool) -> Promise:
    return {"promise": promise, "found": found, "held": held}
