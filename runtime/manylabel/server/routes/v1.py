"""Our own routes: all that the model says of texts."""

import asyncio
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel.errors import InputError
from manylabel.inference.thresholding import ranked, resolve_thresholds
from manylabel.server.explain import explained
from manylabel.server.http.errors import Refusal
from manylabel.server.http.json_codec import decode, reply
from manylabel.server.schemas.all import (
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
from manylabel.server.served_model import Answer, Model
from manylabel.server.service import Service

_DECODER = msgspec.json.Decoder(ClassifyRequest)
_EXPLAIN_DECODER = msgspec.json.Decoder(ExplainRequest)


class OwnRoutes:
    """`/v1`."""

    protocol = "own"

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route("/v1/classify", self.classify, methods=["POST"]),
            Route("/v1/explain", self.explain, methods=["POST"]),
            Route("/v1/model", self.model, methods=["GET"]),
        ]

    async def classify(self, request: Request) -> Response:
        """Labels and probabilities of texts."""
        asked = decode(await self._service.bodies.read(request), _DECODER)
        texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
        thresholds = _thresholds(asked, self._service.model)
        answered = await self._service.answer(request, texts)
        model = answered.model
        if model is not self._service.model:  # reloaded meanwhile: its thresholds are others
            thresholds = _thresholds(asked, model)
        predictions = [_prediction(answer, model, thresholds, asked) for answer in answered.answers]
        if asked.windows:  # tokenises once more, so not on the event loop
            passages = await asyncio.to_thread(_windows, answered.answers, texts, model)
            for prediction, windows in zip(predictions, passages, strict=True):
                prediction.windows = windows
        named = dict(zip(model.labels, thresholds.tolist(), strict=True))
        return reply(ClassifyResponse(model.name, model.version, named, predictions))

    async def explain(self, request: Request) -> Response:
        """Which words of a text a label hangs on."""
        asked = decode(await self._service.bodies.read(request), _EXPLAIN_DECODER)
        model, explanation = await explained(self._service, request, asked.input, asked.label)
        return reply(
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
        """The model that answers."""
        settings, model = self._service.settings, self._service.model
        manifest = model.classifier.bundle.manifest
        named = zip(model.labels, model.thresholds.tolist(), strict=True)
        return reply(
            ModelInfo(
                name=model.name,
                version=model.version,
                precision=model.classifier.precision,
                device=model.classifier.device,
                labels=[LabelInfo(label, threshold) for label, threshold in named],
                max_length=manifest.max_length,
                long_text=manifest.long_text.policy,
                max_windows=manifest.long_text.max_windows,
                thresholds_tuned=manifest.thresholds_tuned,
                limits=Limits(settings.max_body_bytes, settings.max_texts, settings.max_characters),
            )
        )


def _thresholds(asked: ClassifyRequest, model: Model) -> NDArray[np.float32]:
    try:
        return resolve_thresholds(asked.thresholds, model.labels, model.thresholds.tolist())
    except InputError as exc:
        raise Refusal(422, "malformed", str(exc)) from exc


def _prediction(
    answer: Answer, model: Model, thresholds: NDArray[np.float32], asked: ClassifyRequest
) -> TextPrediction:
    labels, scores = ranked(answer.probabilities, thresholds, model.labels, asked.top_k)
    return TextPrediction(labels, scores, answer.n_tokens, answer.truncated, len(answer.windows))


def _windows(answers: Sequence[Answer], texts: Sequence[str], model: Model) -> list[list[Window]]:
    """The windows of each text."""
    return [
        [
            Window(start, end, dict(zip(model.labels, row, strict=True)))
            for (start, end), row in zip(model.classifier.window_spans(text), answer.windows.tolist(), strict=True)
        ]
        for answer, text in zip(answers, texts, strict=True)
    ]
