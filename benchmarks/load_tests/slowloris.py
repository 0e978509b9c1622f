"""Clients that dawdle: `python -m load_tests.slowloris PORT NUMBER`, each socket a byte a second.

Half of them never end their headers, half of them never end their body; one that is hung up on comes back. A line on
standard output says that all are connected.
"""

import asyncio
import sys

HOST = "127.0.0.1"
SPREAD = 5.0
"""Seconds over which they come, as strangers do: else a server's deadline meets all of them at one moment."""

HEADERS = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
BODY = (
    b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
)


async def main(port: int, number: int) -> None:
    """Dawdle until killed."""
    connected = asyncio.Semaphore(0)
    tasks = [
        asyncio.create_task(_dawdle(port, BODY if at % 2 else HEADERS, SPREAD * at / number, connected))
        for at in range(number)
    ]
    for _ in tasks:
        await connected.acquire()
    print("connected", flush=True)
    await asyncio.gather(*tasks)


async def _dawdle(port: int, beginning: bytes, wait: float, connected: asyncio.Semaphore) -> None:
    await asyncio.sleep(wait)
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(beginning)
            connected.release()
            while not writer.is_closing():
                await asyncio.sleep(1)
                writer.write(b"x")
                await writer.drain()
        except OSError:
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
