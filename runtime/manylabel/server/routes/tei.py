"""The routes of text-embeddings-inference, with its shapes and without its softmax.

Source: `router/src/http/{server,types}.rs` of huggingface/text-embeddings-inference.
"""

from collections.abc import Sequence

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel import __version__
from manylabel.server.http.errors import Refusal
from manylabel.server.http.json_codec import decode, reply
from manylabel.server.schemas.all import LabelScore, TeiClassifier, TeiInfo, TeiModelType, TeiPredictRequest
from manylabel.server.served_model import SPECIAL_TOKENS, Answer, Model
from manylabel.server.service import Service

_DECODER = msgspec.json.Decoder(TeiPredictRequest)


class TeiRoutes:
    """`/predict`, `/info`, `/health`, `/metrics`."""

    protocol = "tei"

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/info", self.info, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def predict(self, request: Request) -> Response:
        """Every label with its probability, the most probable first; a list of them for a batch."""
        asked = decode(await self._service.bodies.read(request), _DECODER)
        texts, batched = _texts(asked)
        _check_options(asked)
        answered = await self._service.answer(request, texts)
        if asked.truncate is False:
            _refuse_truncated(answered.answers)
        rows = [label_scores(answer, answered.model) for answer in answered.answers]
        return reply(rows if batched else rows[0])

    async def info(self, request: Request) -> Response:
        """The model and the limits."""
        return reply(_info(self._service))

    async def health(self, request: Request) -> Response:
        """200 while texts are taken."""
        if not self._service.ready:
            raise Refusal(503, "draining", f"the server is {self._service.phase}.")
        return Response()

    async def metrics(self, request: Request) -> Response:
        """Figures for Prometheus."""
        return Response(self._service.expose_metrics(), 200, None, CONTENT_TYPE_LATEST)


def label_scores(answer: Answer, model: Model, top_k: int | None = None) -> list[LabelScore]:
    """Labels with their probabilities, the most probable first."""
    row = answer.probabilities
    order = (-row).argsort(kind="stable")[:top_k]
    return [LabelScore(score, model.labels[column]) for column, score in zip(order, row[order].tolist(), strict=True)]


def _texts(asked: TeiPredictRequest) -> tuple[list[str], bool]:
    """The texts, and whether they came as a batch."""
    inputs = asked.inputs
    if isinstance(inputs, str):
        return [inputs], False
    if not inputs:
        raise Refusal(422, "text", "`inputs` is empty; send a text or a batch such as [[text], [text]].")
    if isinstance(inputs[0], str):
        if len(inputs) > 1:
            raise Refusal(
                422,
                "text",
                f"`inputs` is a list of {len(inputs)} strings, a pair here, and this model takes single texts. "
                "Send a batch as [[text], [text]], or to /v1/classify as [text, text].",
            )
        return [inputs[0]], False
    texts = []
    for row, sequence in enumerate(inputs):
        if len(sequence) != 1 or isinstance(sequence, str):
            raise Refusal(
                422,
                "text",
                f"`inputs[{row}]` has {len(sequence)} strings; this model takes single texts: [[text], ...].",
            )
        texts.append(sequence[0])
    return texts, True


def _check_options(asked: TeiPredictRequest) -> None:
    if asked.raw_scores:
        raise Refusal(422, "malformed", "`raw_scores` is not offered: this model gives probabilities.")
    if asked.truncation_direction.lower() == "left":
        raise Refusal(422, "malformed", "`truncation_direction` left is not offered: texts are read from their start.")


def _refuse_truncated(answers: Sequence[Answer]) -> None:
    for row, answer in enumerate(answers):
        if answer.truncated:
            raise Refusal(422, "text", f"`inputs[{row}]` is longer than this model reads, and `truncate` is false.")


def _info(service: Service) -> TeiInfo:
    settings, model, workers = service.settings, service.model, service.engine.policy.workers
    manifest = model.classifier.bundle.manifest
    numbered = {str(column): label for column, label in enumerate(model.labels)}
    return TeiInfo(
        model_id=model.name,
        model_sha=model.classifier.bundle.digest,
        model_dtype={"fp32": "float32", "fp16": "float16"}.get(model.classifier.precision, model.classifier.precision),
        served_model_name=model.name,
        model_type=TeiModelType(TeiClassifier(numbered, {label: int(column) for column, label in numbered.items()})),
        # The queue is bounded in tokens: as many fit as are estimated at least, besides those at work.
        max_concurrent_requests=settings.max_queue_tokens // SPECIAL_TOKENS + workers,
        max_input_length=manifest.max_length,
        max_batch_tokens=max(model.classifier.batch_tokens, manifest.max_length),  # of one run of the graph
        max_batch_requests=None,
        max_client_batch_size=settings.max_texts,
        auto_truncate=manifest.long_text.policy != "error",
        tokenization_workers=workers,  # a thread tokenises what it computes
        version=__version__,
    )
