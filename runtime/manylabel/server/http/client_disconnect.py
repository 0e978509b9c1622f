"""Client disconnect: cancel the work for a request when its client has gone."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def cancel_on_disconnect(request: Request, result: Awaitable[T]) -> T:
    """Await a result, but cancel it if the client disconnects. The request's body must have been read.

    Raises:
        ClientDisconnect: The client disconnected first.
    """
    task = current_task()
    disconnect = asyncio.ensure_future(request.receive())  # after the body, only a disconnect can arrive
    waiting = True

    def cancel(_: object) -> None:
        if waiting:
            task.cancel()

    disconnect.add_done_callback(cancel)
    try:
        return await result
    except asyncio.CancelledError:
        if disconnect.done() and not disconnect.cancelled():
            task.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        waiting = False
        disconnect.cancel()


def current_task() -> "asyncio.Task[Any]":
    """Return the task that runs the request; uvicorn starts one per request."""
    task = asyncio.current_task()
    assert task, "called outside a task"
    return task
