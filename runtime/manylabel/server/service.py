"""The service behind all routes: settings, the served model, and the path from texts to results.

It checks the limits on texts, maps errors to HTTP, and knows which requests are in progress, so that a reload can
replace the model and a graceful shutdown can wait for them.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from math import ceil
from typing import Any, Literal

from manylabel.errors import missing_extra

if find_spec("starlette") is None:
    raise missing_extra("server", "starlette")

from starlette.requests import Request

from manylabel.classifier import Classifier
from manylabel.errors import InvalidText, ManylabelError
from manylabel.server.http.body import CLOSE_CONNECTION, BodyReader
from manylabel.server.http.client_disconnect import cancel_on_disconnect, current_task
from manylabel.server.http.errors import HTTPRefusal
from manylabel.server.http.request_headers import resolve_timeout
from manylabel.server.observability.metrics import ServerMetrics
from manylabel.server.scheduler import QueueFull
from manylabel.server.served_model import ModelInput, ServedModel
from manylabel.server.settings import Settings
from manylabel.server.worker_pool import DeadlineExceeded, RequestResult, WorkerPool

Phase = Literal["starting", "ready", "draining"]
logger = logging.getLogger("manylabel.server")


class Service:
    """A served model and its requests in progress.

    Args:
        settings: Limits, timeouts and access rules.
        pool: Computes the texts.
        metrics: Metrics of the server.
        load: Loads the bundle for a reload.
    """

    def __init__(
        self, settings: Settings, pool: WorkerPool, metrics: ServerMetrics, load: Callable[[], Classifier]
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.metrics = metrics
        self.bodies = BodyReader(settings)
        self.phase: Phase = "starting"
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._aborting = False
        self._load = load
        self._reload_lock = asyncio.Lock()
        metrics.set_model(pool.model)
        metrics.ready.set_function(lambda: self.ready)
        metrics.queue_tokens.set_function(lambda: pool.queued_tokens)
        metrics.queue_requests.set_function(lambda: pool.queued_requests)

    @property
    def model(self) -> ServedModel:
        """The model that new requests get."""
        return self.pool.model

    @property
    def active(self) -> int:
        """Number of requests in progress."""
        return len(self._tasks)

    @property
    def ready(self) -> bool:
        """Whether new requests are accepted."""
        return self.phase == "ready"

    def check_name(self, name: str | None, version: str | None = None) -> None:
        """Refuse a path with another model name or version than the served one; `None` matches any."""
        if name is not None and name != self.model.name:
            detail = f"model {name[:80]!r} not found; this server serves {self.model.name!r}."
            raise HTTPRefusal(404, "not_found", detail)
        if version is not None and version != self.model.version:
            detail = f"version {version[:80]!r} not found; {self.model.name} has version {self.model.version!r}."
            raise HTTPRefusal(404, "not_found", detail)

    def check_texts(self, texts: Sequence[ModelInput]) -> None:
        """Refuse too many or too long texts, and any text unless the server is ready."""
        if not self.ready:
            detail = f"the server is {self.phase} and does not accept texts."
            raise HTTPRefusal(503, "draining", detail, {"Retry-After": "1", **CLOSE_CONNECTION})
        if not texts:
            raise HTTPRefusal(422, "text", "the request does not contain a text; send 1 or more.")
        if len(texts) > self.settings.max_texts:
            detail = f"the request has {len(texts):,} texts; at most {self.settings.max_texts:,} are allowed."
            raise HTTPRefusal(413, "too_large", detail)
        limit = self.settings.max_characters
        for row, text in enumerate(texts):
            if isinstance(text, str) and len(text) > limit:
                detail = f"text {row} has {len(text):,} characters; at most {limit:,} are allowed."
                raise HTTPRefusal(413, "too_large", detail)

    def refuse_overload(self, timeout_ms: str | None) -> HTTPRefusal | None:
        """Return the refusal that applies to any request while the queue is full; `None` if requests are admitted.

        Args:
            timeout_ms: The request's `X-Timeout-Ms` header, if it has one.
        """
        retry_after = self.pool.estimate_retry_after(resolve_timeout(timeout_ms, self.settings.timeout))
        return self._queue_full(retry_after) if retry_after else None

    def timeout_of(self, request: Request) -> float:
        """Return the seconds that a request may take."""
        return resolve_timeout(request.headers.get("x-timeout-ms"), self.settings.timeout)

    async def compute(self, request: Request, texts: Sequence[ModelInput]) -> RequestResult:
        """Compute a request's texts.

        Raises:
            HTTPRefusal: A text is invalid, the queue is full, the deadline has passed, or the model failed.
            ClientDisconnect: The client disconnected.
        """
        self.check_texts(texts)
        timeout = self.timeout_of(request)
        task = current_task()
        self._tasks.add(task)
        try:
            result = await cancel_on_disconnect(request, self.pool.compute(texts, timeout))
        except QueueFull as exc:
            raise self._queue_full(exc.retry_after) from exc
        except DeadlineExceeded as exc:
            raise HTTPRefusal(504, "deadline", f"not computed within {timeout:g} s.") from exc
        except InvalidText as exc:
            raise HTTPRefusal(422, "text", str(exc)) from exc
        except ManylabelError as exc:
            raise HTTPRefusal(500, "model", str(exc)) from exc
        except asyncio.CancelledError:
            if not self._aborting:
                raise
            task.uncancel()
            detail = "the server shut down before the request was finished; send it to another server."
            raise HTTPRefusal(503, "draining", detail, CLOSE_CONNECTION) from None
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                self._idle.set()
        request.scope["manylabel.timings"] = result.timings
        request.scope["manylabel.texts"] = len(texts)
        return result

    async def wait_until_idle(self) -> None:
        """Wait until no request is in progress."""
        while self.active:
            self._idle.clear()
            await self._idle.wait()

    async def abort(self) -> None:
        """Refuse the requests in progress: the time for a graceful shutdown is over."""
        self._aborting = True
        for task in self._tasks:
            task.cancel()
        await self.wait_until_idle()

    async def reload(self) -> bool:
        """Load the bundle again and switch new requests to it; meanwhile, the current model continues to serve.

        Returns:
            Whether the version has changed.

        Raises:
            HTTPRefusal: The bundle cannot be loaded or fails its probes; the current model stays.
        """
        async with self._reload_lock:
            before = self.model
            try:
                model = ServedModel(before.name, await asyncio.to_thread(self._load))
            except ManylabelError as exc:
                self.metrics.reloads.labels("failed").inc()
                detail = f"the bundle cannot be loaded, version {before.version} stays in service: {exc}"
                raise HTTPRefusal(422, "model", detail) from exc
            changed = model.version != before.version
            if changed:
                self.pool.model = model
                self.metrics.set_model(model)
            self.metrics.reloads.labels("switched" if changed else "unchanged").inc()
            logger.info("reloaded: version %s replaces %s", model.version, before.version)
            return changed

    def _queue_full(self, seconds: float) -> HTTPRefusal:
        retry_after = str(max(1, ceil(seconds)))
        tokens, limit = self.pool.queued_tokens, self.settings.max_queue_tokens
        detail = f"the queue is full: it holds {tokens:,} tokens of at most {limit:,}; retry after {retry_after} s."
        return HTTPRefusal(429, "full", detail, {"Retry-After": retry_after})
