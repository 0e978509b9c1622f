"""Slow clients (a Slowloris attack): `python -m load_tests.slowloris PORT NUMBER`, each sends one byte per second.

Half of them never end their headers, the other half never end their body; a client that is disconnected reconnects. A
line on standard output reports that all are connected.
"""

import asyncio
import sys

HOST = "127.0.0.1"
CONNECT_SECONDS = 5.0
"""Seconds over which the clients connect; otherwise a timeout of the server would hit all of them at one moment."""

HEADERS = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
BODY = (
    b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
)


async def main(port: int, number: int) -> None:
    """Keep `number` slow clients connected until the process is killed."""
    connected = asyncio.Semaphore(0)
    tasks = [
        asyncio.create_task(_send_slowly(port, BODY if at % 2 else HEADERS, CONNECT_SECONDS * at / number, connected))
        for at in range(number)
    ]
    for _ in tasks:
        await connected.acquire()
    print("connected", flush=True)
    await asyncio.gather(*tasks)


async def _send_slowly(port: int, head: bytes, delay: float, connected: asyncio.Semaphore) -> None:
    await asyncio.sleep(delay)
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(head)
            connected.release()
            while not writer.is_closing():
                await asyncio.sleep(1)
                writer.write(b"x")
                await writer.drain()
        except OSError:
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
