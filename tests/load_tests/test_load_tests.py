"""The load generator keeps its rate, counts latency from when a request was due, and loses no outcome."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.toy import LABELS, TEXTS

from load_tests.scenarios import seconds_to_normal
from manylabel_bench.load.open_loop import (
    RequestOutcome,
    RequestStream,
    measure_saturation,
    send_at_rate,
    summarize_outcomes,
)

REQUESTS = [f"POST /{number} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode() for number in range(3)]


def answer(status: int = 200, extra: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{extra}Content-Length: 2\r\n\r\nok".encode()


Reply = Callable[[int], Awaitable[bytes]]


def against(
    reply: Reply, phases: list[tuple[float, float]], patience: float = 5
) -> tuple[list[RequestOutcome], list[bytes]]:
    """Send requests to a server that answers with `reply`; return the outcomes and the request lines received."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]:
                seen.append(line)
                response = await reply(len(seen))
                writer.write(response)
                if not response or b"close" in response:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run() -> list[RequestOutcome]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        outcomes = await send_at_rate(RequestStream("127.0.0.1", port, REQUESTS), phases, patience)
        server.close()
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(handlers, timeout=0.5) if handlers else None
        return outcomes

    return asyncio.run(run()), seen


async def at_once(number: int) -> bytes:
    return answer()


def test_open_loop_requests_at_a_constant_rate() -> None:
    outcomes, seen = against(at_once, [(100, 0.3), (200, 0.1)])
    due = sorted(each.due for each in outcomes)
    assert due == pytest.approx([n / 100 for n in range(30)] + [0.3 + n / 200 for n in range(20)])
    assert sorted(seen[:3]) == [b"POST /0 HTTP/1.1", b"POST /1 HTTP/1.1", b"POST /2 HTTP/1.1"]
    assert all(each.status == 200 and each.latency > 0 for each in outcomes)


def test_open_loop_latency_counts_from_due_time() -> None:
    async def stalls(number: int) -> bytes:
        await asyncio.sleep(0.4)
        return answer()

    outcomes, seen = against(stalls, [(100, 0.2)])
    assert len(seen) == len(outcomes) == 20  # a closed loop would have sent one
    assert all(each.latency >= 0.4 for each in outcomes)


def test_late_sender_counts_as_latency() -> None:
    outcomes, _ = against(at_once, [(100_000, 0.02)])
    last = max(outcomes, key=lambda each: each.due)
    assert last.sent > last.due
    assert last.latency > last.sent - last.due


def test_every_request_is_answered_rejected_or_lost() -> None:
    kinds = [answer(), answer(429), answer(504), answer(500), b"", answer(200, "Connection: close\r\n")]

    async def mixed(number: int) -> bytes:
        return kinds[number % len(kinds)]

    outcomes, _ = against(mixed, [(200, 0.3)])
    summary = summarize_outcomes(outcomes, 0.3)
    assert (summary["sent"], summary["answered"], summary["refused"], summary["lost"]) == (60, 20, 20, 20)
    assert summary["statuses"] == {"0": 10, "200": 20, "429": 10, "500": 10, "504": 10}
    assert len(summary["turned_away_ms"]) == len(summary["latency_ms"]) == 4


def test_unanswered_request_is_lost() -> None:
    async def silent(number: int) -> bytes:
        await asyncio.sleep(60)
        return answer()

    outcomes, _ = against(silent, [(50, 0.1)], patience=0.2)
    assert summarize_outcomes(outcomes, 0.1)["lost"] == 5


def test_unreachable_server_loses_every_request() -> None:
    outcomes = asyncio.run(send_at_rate(RequestStream("127.0.0.1", 1, REQUESTS), [(100, 0.1)]))
    assert summarize_outcomes(outcomes, 0.1)["lost"] == 10


def test_throughput_counts_answers_in_time_only() -> None:
    outcomes = [RequestOutcome(5 + n / 10, 5 + n / 10, 0.05 if n < 5 else 3.0, 200) for n in range(10)]
    summary = summarize_outcomes(outcomes, 1.0)
    assert (summary["answered"], summary["answered_per_second"], summary["sent_per_second"]) == (10, 5, 10)


def test_saturation_keeps_a_fixed_concurrency() -> None:
    under_way: list[int] = []

    async def run() -> float:
        busy = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal busy
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    busy += 1
                    under_way.append(busy)
                    await asyncio.sleep(0.05)
                    busy -= 1
                    writer.write(answer())
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        rate = await measure_saturation(RequestStream("127.0.0.1", port, REQUESTS), 4, 0.5)
        server.close()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        return rate

    assert 0 < asyncio.run(run()) <= 4 / 0.05 * 1.1
    assert max(under_way) == 4


def test_recovery_means_three_normal_seconds() -> None:
    def bucket(begin: float, second: int, latency: float, status: int = 200) -> list[RequestOutcome]:
        return [RequestOutcome(begin + second + n / 10, begin + second + n / 10, latency, status) for n in range(10)]

    before = bucket(0, 0, 0.05) + bucket(0, 1, 0.1)
    slow, refused = bucket(10, 0, 2.0), bucket(10, 2, 0.01, 429)
    rest = [outcome for second in range(3, 6) for outcome in bucket(10, second, 0.1)]
    after = slow + bucket(10, 1, 0.01) + refused + rest
    assert seconds_to_normal(before, after, 10) == 3.0
    assert seconds_to_normal(before, [*after, *bucket(10, 6, 9.9)], 10) == 3.0
    assert seconds_to_normal(before, [*after, *bucket(10, 4, 0.11)], 10) is None
    assert seconds_to_normal(before, after[:-10], 10) is None


@pytest.fixture(scope="module")
def result(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """A short run with the toy bundle, without other servers."""
    folder = tmp_path_factory.mktemp("serving")
    rows = [f'"{text}",{LABELS[n % len(LABELS)]},test' for n, text in enumerate(TEXTS)]
    (folder / "data.csv").write_text("\n".join(["text,labels,split", *rows]))
    command = [sys.executable, "-m", "load_tests", bundle, "--data", folder / "data.csv"]
    command += ["--seconds", 0.6, "--recovery", 0.6, "--rounds", 1, "--texts", 20, "--output", folder / "results"]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results" / "result.json").read_text()), (folder / "results" / "README.md").read_text()


def test_load_test_writes_speed_and_load(result: tuple[dict[str, Any], str]) -> None:
    document, text = result
    assert document["speed"]["one_text"]["in_process_ms"] > 0
    assert document["speed"]["rates"]["manylabel serve"]["requests_per_second"] > 0
    assert 0 <= document["speed"]["accuracy"]["manylabel serve"]["micro_f1"] <= 1
    load = document["load"]
    assert load["steady"]["sent"] == load["steady"]["answered"] + load["steady"]["refused"] + load["steady"]["lost"]
    assert load["overload"]["rate"] == pytest.approx(2 * load["overload"]["capacity"]["before"])
    assert load["spike"]["live_ms"]["max"] > 0
    assert load["overload"]["share"] == pytest.approx(load["overload"]["rounds"][0]["share"])
    assert (len(load["slow_sockets"]["p99_ms"]["with"]), len(load["slow_sockets"]["control"])) == (2, 2)
    assert len(document["promises"]) == 11
    for each in document["promises"]:
        assert f"- [{'x' if each['held'] else ' '}] {each['promise']}: {each['found']}\n" in text
