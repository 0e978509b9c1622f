"""What the routes share: settings, the model, and the one way from texts to answers."""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, Literal

from starlette.requests import Request

from manylabel.classifier import Classifier
from manylabel.errors import InvalidText, ManylabelError
from manylabel.server.http.client_disconnect import this_task, while_connected
from manylabel.server.http.errors import Refusal
from manylabel.server.http.request_body import CLOSE, Bodies
from manylabel.server.observability.metrics import Metrics
from manylabel.server.scheduler import Full
from manylabel.server.served_model import Asked, Model
from manylabel.server.settings import Settings
from manylabel.server.worker_pool import Answered, DeadlineExceeded, Engine

Phase = Literal["starting", "ready", "draining"]
logger = logging.getLogger("manylabel.server")


class Service:
    """A model being served."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics, load: Callable[[], Classifier]) -> None:
        self.settings = settings
        self._answering: set[asyncio.Task[Any]] = set()
        self._gives_up = False
        self._load = load
        self._loading = asyncio.Lock()
        self._idle = asyncio.Event()
        self.engine = engine
        self.metrics = metrics
        self.bodies = Bodies(settings)
        self.phase: Phase = "starting"
        metrics.describe(engine.model)
        metrics.ready.set_function(lambda: self.ready)
        metrics.queue_tokens.set_function(lambda: engine.queued_tokens)
        metrics.queue_requests.set_function(lambda: engine.waiting)

    @property
    def model(self) -> Model:
        """The model that answers now."""
        return self.engine.model

    @property
    def active(self) -> int:
        """Requests whose texts are being answered."""
        return len(self._answering)

    @property
    def ready(self) -> bool:
        """Whether texts are taken."""
        return self.phase == "ready"

    def expose_metrics(self) -> bytes:
        """All figures in Prometheus' text format."""
        return self.metrics.expose()

    def check_name(self, name: str | None, version: str | None = None) -> None:
        """Refuse a path that names another model or version than the one that is served; `None` names none."""
        if name is not None and name != self.model.name:
            raise Refusal(404, "not_found", f"there is no model {name[:80]!r}; this server has {self.model.name!r}.")
        if version is not None and version != self.model.version:
            raise Refusal(
                404, "not_found", f"there is no version {version[:80]!r}; {self.model.name} has {self.model.version!r}."
            )

    def crowded(self, timeout_ms: str | None) -> Refusal | None:
        """Why a request would be refused whatever its texts are; `None` where they have to be looked at.

        Args:
            timeout_ms: Its `X-Timeout-Ms`, if it has one.
        """
        seconds = self.engine.crowded_for(self._timeout(timeout_ms))
        return self._full(seconds) if seconds else None

    async def answer(self, request: Request, texts: Sequence[Asked]) -> Answered:
        """Answer a request's texts.

        Raises:
            Refusal: They are not answered.
            ClientDisconnect: Nobody waits for them any more.
        """
        self.check(texts)
        timeout = self.timeout_of(request)
        task = this_task()
        self._answering.add(task)
        try:
            answered = await while_connected(request, self.engine.answer(texts, timeout))
        except Full as exc:
            raise self._full(exc.retry_after) from exc
        except DeadlineExceeded as exc:
            raise Refusal(504, "deadline", f"not answered within {timeout:g} s.") from exc
        except InvalidText as exc:
            raise Refusal(422, "text", str(exc)) from exc
        except ManylabelError as exc:
            raise Refusal(500, "model", str(exc)) from exc
        except asyncio.CancelledError:
            if not self._gives_up:
                raise
            task.uncancel()
            raise Refusal(503, "draining", "the server ends before this is answered; ask another.", CLOSE) from None
        finally:
            self._answering.discard(task)
            if not self._answering:
                self._idle.set()
        request.scope["manylabel.timings"] = answered.timings
        request.scope["manylabel.texts"] = len(texts)
        return answered

    async def idle(self) -> None:
        """Wait until no request's texts are being answered."""
        while self.active:
            self._idle.clear()
            await self._idle.wait()

    async def give_up(self) -> None:
        """Refuse what is being answered: there is no more time."""
        self._gives_up = True
        for task in self._answering:
            task.cancel()
        await self.idle()

    async def reload(self) -> bool:
        """Load the bundle anew, while the one that was loaded answers, and let it answer what comes from then on.

        Returns:
            Whether it is another than before.

        Raises:
            Refusal: It cannot be loaded, or does not answer its probes; the one that was loaded goes on answering.
        """
        async with self._loading:
            before = self.model
            try:
                model = Model(before.name, await asyncio.to_thread(self._load))
            except ManylabelError as exc:
                self.metrics.reloads.labels("failed").inc()
                detail = f"the bundle cannot be loaded, {before.version} goes on answering: {exc}"
                raise Refusal(422, "model", detail) from exc
            changed = model.version != before.version
            if changed:
                self.engine.model = model
                self.metrics.describe(model)
            self.metrics.reloads.labels("switched" if changed else "unchanged").inc()
            logger.info("reloaded: %s before, %s now", before.version, model.version)
            return changed

    def timeout_of(self, request: Request) -> float:
        """Seconds that a request may take."""
        return self._timeout(request.headers.get("x-timeout-ms"))

    def _timeout(self, given: str | None) -> float:
        """Seconds that a request may take: what its client grants, within what the server does."""
        if given is None:
            return self.settings.timeout
        if not re.fullmatch("[1-9][0-9]{0,8}", given):
            raise Refusal(422, "malformed", f"X-Timeout-Ms is {given[:20]!r}; expected milliseconds, 1 or more.")
        return min(int(given) / 1000, self.settings.timeout)

    def _full(self, seconds: float) -> Refusal:
        after = str(max(1, ceil(seconds)))
        queued, most = self.engine.queued_tokens, self.settings.max_queue_tokens
        detail = f"the queue holds {queued:,} tokens of at most {most:,}; try again after {after} s."
        return Refusal(429, "full", detail, {"Retry-After": after})

    def check(self, texts: Sequence[Asked]) -> None:
        """Refuse texts that are too many or too long, and all of them where none are taken."""
        if not self.ready:
            raise Refusal(
                503, "draining", f"the server is {self.phase}; it takes no texts.", {"Retry-After": "1", **CLOSE}
            )
        if not texts:
            raise Refusal(422, "text", "there is no text; send 1 or more.")
        if len(texts) > self.settings.max_texts:
            raise Refusal(413, "too_large", f"{len(texts)} texts; a request takes at most {self.settings.max_texts}.")
        for row, text in enumerate(texts):
            if isinstance(text, str) and len(text) > self.settings.max_characters:
                limit = self.settings.max_characters
                raise Refusal(
                    413, "too_large", f"text {row} has {len(text):,} characters; at most {limit:,} are taken."
                )
