"""Whether a request's client is still there."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def while_connected(request: Request, answer: Awaitable[T]) -> T:
    """Await an answer, and cancel it where the client goes away. The request's body has been read.

    Raises:
        ClientDisconnect: It went away first.
    """
    task = this_task()
    watch = asyncio.ensure_future(request.receive())  # after the body, only a disconnect can come
    waiting = True

    def gone(_: object) -> None:
        if waiting:
            task.cancel()

    watch.add_done_callback(gone)
    try:
        return await answer
    except asyncio.CancelledError:
        if watch.done() and not watch.cancelled():
            task.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        waiting = False
        watch.cancel()


def this_task() -> "asyncio.Task[Any]":
    """What the caller runs in: a request's own task, as uvicorn starts one for each."""
    task = asyncio.current_task()
    assert task, "called outside of a task"
    return task
