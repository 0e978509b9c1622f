"""Explanations over HTTP: occlude each word of a text, and compute the occluded texts through the scheduler.

An explanation is computed in small parts. So other requests never wait for more than one part, an explanation takes no
more of the queue than a small request, and it is subject to the same limits as a text.
"""

import asyncio
from collections.abc import Sequence
from importlib.util import find_spec

from manylabel.errors import missing_extra

if find_spec("starlette") is None:
    raise missing_extra("server", "starlette")

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from manylabel.errors import InputError, InvalidText
from manylabel.explain.occlusion import Explanation, build_explanation, plan_occlusion
from manylabel.inference.length_batching import TokenIds
from manylabel.inference.tokenizer import Encoding
from manylabel.server.http.errors import HTTPRefusal
from manylabel.server.served_model import ServedModel
from manylabel.server.service import Service

PART_WINDOWS = 32
"""Occluded windows in the queue at a time: 16,000 tokens of 100,000 if the text fills its window."""


async def explain_text(
    service: Service, request: Request, text: str, label: str | None
) -> tuple[ServedModel, Explanation]:
    """Explain a label's probability; return the model that computed it, too.

    Raises:
        HTTPRefusal: The text or the label is invalid, the queue is full, or the deadline has passed.
        ClientDisconnect: The client disconnected.
    """
    service.check_texts([text])
    timeout = service.timeout_of(request)
    try:
        async with asyncio.timeout(timeout):
            return await _explain(service, request, text, label)
    except TimeoutError as exc:
        raise HTTPRefusal(504, "deadline", f"not explained within {timeout:g} s; a shorter text takes less.") from exc
    except InvalidText as exc:
        raise HTTPRefusal(422, "text", str(exc)) from exc
    except InputError as exc:
        raise HTTPRefusal(422, "malformed", str(exc)) from exc


async def _explain(service: Service, request: Request, text: str, label: str | None) -> tuple[ServedModel, Explanation]:
    # Tokenization and word splitting take time that grows with the text, so they run outside the event loop.
    model = service.model
    tokenized = await asyncio.to_thread(model.classifier.prepare_explanation, text, label)
    scores = await _score_windows(service, request, model, tokenized.windows)
    plan = await asyncio.to_thread(plan_occlusion, tokenized, scores)
    scores = await _score_windows(service, request, model, plan.windows)
    return model, build_explanation(plan, scores)


async def _score_windows(
    service: Service, request: Request, model: ServedModel, windows: Sequence[TokenIds]
) -> NDArray[np.float32]:
    """Return the probabilities of the windows, shape `(n_windows, n_labels)`."""
    rows = [np.empty((0, len(model.labels)), dtype=np.float32)]
    for start in range(0, len(windows), PART_WINDOWS):
        part = [Encoding((window,), len(window), truncated=False) for window in windows[start : start + PART_WINDOWS]]
        computed = await service.compute(request, part)
        if computed.model is not model:
            detail = "a new bundle was loaded while the text was being explained; send the request again."
            raise HTTPRefusal(503, "model", detail, {"Retry-After": "1"})
        rows += [result.windows for result in computed.results]
    return np.concatenate(rows)
