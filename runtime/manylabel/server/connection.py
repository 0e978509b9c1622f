"""Whether a request's client is still there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def while_connected(request: Request, answer: Coroutine[Any, Any, T]) -> T:
    """Await an answer, and cancel it where the client goes away. The request's body has been read.

    Raises:
        ClientDisconnect: It went away first.
    """
    task = asyncio.ensure_future(answer)
    watch = asyncio.ensure_future(request.receive())  # after the body, only a disconnect can come
    watch.add_done_callback(lambda _: task.cancel())
    try:
        return await task
    except asyncio.CancelledError:
        if watch.done() and not watch.cancelled():
            raise ClientDisconnect from None
        raise
    finally:
        task.cancel()
        watch.cancel()
