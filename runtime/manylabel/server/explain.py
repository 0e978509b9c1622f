"""Explanations over HTTP: a text is scored without each of its words, a few at a time, by the scheduler as all else.

So nothing waits for more than a few of them, one explanation takes as much of the queue as a small request, and the
limits of the server are those of texts.
"""

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from manylabel.errors import InputError, InvalidText
from manylabel.explain.occlusion import Explanation, Ids, build_explanation, plan_occlusion
from manylabel.inference.tokenizer import Encoding
from manylabel.server.http.errors import Refusal
from manylabel.server.served_model import Model
from manylabel.server.service import Service

PART = 32
"""Windows that are in the queue at a time, a word each: 16,000 tokens of 100,000 where a text fills its window."""


async def explained(service: Service, request: Request, text: str, label: str | None) -> tuple[Model, Explanation]:
    """What a label's probability hangs on, and the model that says so.

    Raises:
        Refusal: The text or the label is not taken, or there is no room or no time.
        ClientDisconnect: Nobody waits for it any more.
    """
    service.check([text])
    seconds = service.timeout_of(request)
    try:
        async with asyncio.timeout(seconds):
            return await _explained(service, request, text, label)
    except TimeoutError as exc:
        raise Refusal(504, "deadline", f"not explained within {seconds:g} s; a shorter text takes less.") from exc
    except InvalidText as exc:
        raise Refusal(422, "text", str(exc)) from exc
    except InputError as exc:
        raise Refusal(422, "malformed", str(exc)) from exc


async def _explained(service: Service, request: Request, text: str, label: str | None) -> tuple[Model, Explanation]:
    model = service.model
    prepared = await asyncio.to_thread(model.classifier.prepare_explanation, text, label)
    scores = await _scores(service, request, model, prepared.windows)
    plan = await asyncio.to_thread(plan_occlusion, prepared, scores)  # splits words: off the event loop
    return model, build_explanation(plan, await _scores(service, request, model, plan.windows))


async def _scores(service: Service, request: Request, model: Model, windows: Sequence[Ids]) -> NDArray[np.float32]:
    """Probabilities of windows, shape `(n_windows, n_labels)`."""
    rows = [np.empty((0, len(model.classifier.labels)), dtype=np.float32)]
    for start in range(0, len(windows), PART):
        part = [Encoding((window,), len(window), truncated=False) for window in windows[start : start + PART]]
        answered = await service.answer(request, part)
        if answered.model is not model:
            raise Refusal(503, "model", "another bundle was loaded meanwhile; ask again.", {"Retry-After": "1"})
        rows += [answer.windows for answer in answered.answers]
    return np.concatenate(rows)
