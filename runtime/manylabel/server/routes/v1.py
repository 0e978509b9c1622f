"""Routes of the native protocol, `/v1`: thresholds per request, windows, explanations."""

import asyncio
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel.errors import InputError
from manylabel.inference.thresholding import rank_labels, resolve_thresholds
from manylabel.server.explain import explain_text
from manylabel.server.http.body import decode_json, json_response
from manylabel.server.http.errors import HTTPRefusal
from manylabel.server.schemas.v1 import (
    ClassifyRequest,
    ClassifyResponse,
    ExplainedPassage,
    ExplainedWord,
    ExplainRequest,
    ExplainResponse,
    LabelInfo,
    Limits,
    ModelInfo,
    TextPrediction,
    Window,
)
from manylabel.server.served_model import ServedModel, TextResult
from manylabel.server.service import Service

_CLASSIFY_DECODER = msgspec.json.Decoder(ClassifyRequest)
_EXPLAIN_DECODER = msgspec.json.Decoder(ExplainRequest)


class V1Routes:
    """`/v1`."""

    protocol = "own"  # part of the names of routes in logs and metrics

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes to mount."""
        return [
            Route("/v1/classify", self.classify, methods=["POST"]),
            Route("/v1/explain", self.explain, methods=["POST"]),
            Route("/v1/model", self.model, methods=["GET"]),
        ]

    async def classify(self, request: Request) -> Response:
        """Return labels and probabilities for each text."""
        body = decode_json(await self._service.bodies.read(request), _CLASSIFY_DECODER)
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        thresholds = _resolve_thresholds(body, self._service.model)
        computed = await self._service.compute(request, texts)
        model = computed.model
        if model is not self._service.model:  # another model was loaded, with other thresholds
            thresholds = _resolve_thresholds(body, model)
        predictions = [_predict(result, model, thresholds, body.top_k) for result in computed.results]
        if body.windows:  # tokenizes the texts again, so it runs outside the event loop
            windows = await asyncio.to_thread(_describe_windows, computed.results, texts, model)
            for prediction, text_windows in zip(predictions, windows, strict=True):
                prediction.windows = text_windows
        by_label = dict(zip(model.labels, thresholds.tolist(), strict=True))
        return json_response(ClassifyResponse(model.name, model.version, by_label, predictions))

    async def explain(self, request: Request) -> Response:
        """Return the effect of each word on a label's probability."""
        body = decode_json(await self._service.bodies.read(request), _EXPLAIN_DECODER)
        model, explanation = await explain_text(self._service, request, body.input, body.label)
        return json_response(
            ExplainResponse(
                model=model.name,
                version=model.version,
                label=explanation.label,
                probability=explanation.score,
                threshold=explanation.threshold,
                carried_by=explanation.carried_by,
                passages=[ExplainedPassage(each.start, each.end, each.score) for each in explanation.passages],
                words=[ExplainedWord(each.start, each.end, each.effect) for each in explanation.words],
            )
        )

    async def model(self, request: Request) -> Response:
        """Return the served model and the limits on a request."""
        settings, model = self._service.settings, self._service.model
        manifest = model.classifier.bundle.manifest
        thresholds = zip(model.labels, model.thresholds.tolist(), strict=True)
        return json_response(
            ModelInfo(
                name=model.name,
                version=model.version,
                precision=model.classifier.precision,
                device=model.classifier.device,
                labels=[LabelInfo(label, threshold) for label, threshold in thresholds],
                max_length=manifest.max_length,
                long_text=manifest.long_text.policy,
                max_windows=manifest.long_text.max_windows,
                thresholds_tuned=manifest.thresholds_tuned,
                limits=Limits(settings.max_body_bytes, settings.max_texts, settings.max_characters),
            )
        )


def _resolve_thresholds(body: ClassifyRequest, model: ServedModel) -> NDArray[np.float32]:
    """Return the thresholds that apply to a request, shape `(n_labels,)`."""
    try:
        return resolve_thresholds(body.thresholds, model.labels, model.thresholds.tolist())
    except InputError as exc:
        raise HTTPRefusal(422, "malformed", str(exc)) from exc


def _predict(
    result: TextResult, model: ServedModel, thresholds: NDArray[np.float32], top_k: int | None
) -> TextPrediction:
    labels, probabilities = rank_labels(result.probabilities, thresholds, model.labels, top_k)
    return TextPrediction(labels, probabilities, result.n_tokens, result.truncated, len(result.windows))


def _describe_windows(results: Sequence[TextResult], texts: Sequence[str], model: ServedModel) -> list[list[Window]]:
    """Return the windows of each text: position and probabilities."""
    return [
        [
            Window(start, end, dict(zip(model.labels, row, strict=True)))
            for (start, end), row in zip(model.classifier.window_spans(text), result.windows.tolist(), strict=True)
        ]
        for result, text in zip(results, texts, strict=True)
    ]
