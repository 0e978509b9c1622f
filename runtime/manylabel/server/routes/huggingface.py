"""Hugging Face's inference shape for text classification: nested lists, as `huggingface_hub.InferenceClient` reads."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel.server.http.errors import Refusal
from manylabel.server.http.json_codec import decode, reply
from manylabel.server.routes.tei import label_scores
from manylabel.server.schemas.all import HfParameters, HfRequest
from manylabel.server.service import Service

_DECODER = msgspec.json.Decoder(HfRequest)


class HuggingFaceRoutes:
    """`POST /` and `POST /models/M`."""

    protocol = "hf"

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """What to mount."""
        return [
            Route("/", self.classify, methods=["POST"]),
            Route("/models/{model:path}", self.classify, methods=["POST"]),
        ]

    async def classify(self, request: Request) -> Response:
        """A list of labels for every text."""
        self._service.check_name(request.path_params.get("model"))
        asked = decode(await self._service.bodies.read(request), _DECODER)
        parameters = asked.parameters or HfParameters()
        if parameters.function_to_apply in ("softmax", "none"):
            raise Refusal(
                422,
                "malformed",
                f"function_to_apply is {parameters.function_to_apply!r}; this model's labels are independent, "
                "and only 'sigmoid' is offered.",
            )
        texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
        answered = await self._service.answer(request, texts)
        rows = [label_scores(answer, answered.model, parameters.top_k) for answer in answered.answers]
        return reply(rows)
