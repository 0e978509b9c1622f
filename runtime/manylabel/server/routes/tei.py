"""Routes of text-embeddings-inference (TEI), with its request and response format, but sigmoid instead of softmax.

Source: `router/src/http/{server,types}.rs` of huggingface/text-embeddings-inference.
"""

from collections.abc import Sequence

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel import __version__
from manylabel.inference.thresholding import rank_labels
from manylabel.server.http.body import decode_json, json_response
from manylabel.server.http.errors import HTTPRefusal
from manylabel.server.schemas.tei import LabelScore, TeiClassifier, TeiInfo, TeiModelType, TeiPredictRequest
from manylabel.server.served_model import SPECIAL_TOKENS, ServedModel, TextResult
from manylabel.server.service import Service

_DECODER = msgspec.json.Decoder(TeiPredictRequest)


class TeiRoutes:
    """`/predict`, `/info`, `/health`, `/metrics`."""

    protocol = "tei"

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes to mount."""
        return [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/info", self.info, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def predict(self, request: Request) -> Response:
        """Return every label with its probability, most probable first; for a batch, a list of such lists."""
        body = decode_json(await self._service.bodies.read(request), _DECODER)
        texts, is_batch = _parse_inputs(body)
        _check_options(body)
        computed = await self._service.compute(request, texts)
        if body.truncate is False:
            _refuse_truncated(computed.results)
        rows = [to_label_scores(result, computed.model) for result in computed.results]
        return json_response(rows if is_batch else rows[0])

    async def info(self, request: Request) -> Response:
        """Return the model and the limits."""
        return json_response(_info(self._service))

    async def health(self, request: Request) -> Response:
        """Return 200 while requests are accepted, else 503."""
        if not self._service.ready:
            raise HTTPRefusal(503, "draining", f"the server is {self._service.phase}.")
        return Response()

    async def metrics(self, request: Request) -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(self._service.metrics.expose(), 200, None, CONTENT_TYPE_LATEST)


def to_label_scores(result: TextResult, model: ServedModel, top_k: int | None = None) -> list[LabelScore]:
    """Return the labels with their probabilities, most probable first."""
    _, probabilities = rank_labels(result.probabilities, model.thresholds, model.labels, top_k)
    return [LabelScore(probability, label) for label, probability in probabilities.items()]


def _parse_inputs(body: TeiPredictRequest) -> tuple[list[str], bool]:
    """Return the texts, and whether they came as a batch."""
    inputs = body.inputs
    if isinstance(inputs, str):
        return [inputs], False
    if not inputs:
        raise HTTPRefusal(422, "text", "`inputs` is empty; send a text, or a batch such as [[text], [text]].")
    if isinstance(inputs[0], str):
        if len(inputs) > 1:
            raise HTTPRefusal(
                422,
                "text",
                f"`inputs` is a list of {len(inputs)} strings, which this protocol reads as a text pair; this model "
                "classifies single texts. Send a batch as [[text], [text]], or to /v1/classify as [text, text].",
            )
        return [inputs[0]], False
    texts = []
    for row, sequence in enumerate(inputs):
        if len(sequence) != 1 or isinstance(sequence, str):
            raise HTTPRefusal(
                422,
                "text",
                f"`inputs[{row}]` has {len(sequence)} strings; this model classifies single texts: [[text], ...].",
            )
        texts.append(sequence[0])
    return texts, True


def _check_options(body: TeiPredictRequest) -> None:
    if body.raw_scores:
        raise HTTPRefusal(422, "malformed", "`raw_scores` is not supported: this server returns probabilities.")
    if body.truncation_direction.lower() == "left":
        detail = "`truncation_direction` left is not supported: the start of a text is kept."
        raise HTTPRefusal(422, "malformed", detail)


def _refuse_truncated(results: Sequence[TextResult]) -> None:
    for row, result in enumerate(results):
        if result.truncated:
            detail = f"`inputs[{row}]` is longer than the model can read, and `truncate` is false."
            raise HTTPRefusal(422, "text", detail)


def _info(service: Service) -> TeiInfo:
    settings, model, workers = service.settings, service.model, service.pool.policy.workers
    manifest = model.classifier.bundle.manifest
    id2label = {str(column): label for column, label in enumerate(model.labels)}
    return TeiInfo(
        model_id=model.name,
        model_sha=model.classifier.bundle.digest,
        model_dtype={"fp32": "float32", "fp16": "float16"}.get(model.classifier.precision, model.classifier.precision),
        served_model_name=model.name,
        model_type=TeiModelType(TeiClassifier(id2label, {label: int(column) for column, label in id2label.items()})),
        # The queue is limited in tokens: as many of the shortest texts as fit, and one per worker.
        max_concurrent_requests=settings.max_queue_tokens // SPECIAL_TOKENS + workers,
        max_input_length=manifest.max_length,
        max_batch_tokens=max(model.classifier.batch_tokens, manifest.max_length),  # of one inference call
        max_batch_requests=None,
        max_client_batch_size=settings.max_texts,
        auto_truncate=manifest.long_text.policy != "error",
        tokenization_workers=workers,  # each worker tokenizes the texts that it computes
        version=__version__,
    )
