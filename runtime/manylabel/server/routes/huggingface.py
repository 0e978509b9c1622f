"""Routes of Hugging Face's Inference API for text classification, as `huggingface_hub.InferenceClient` calls them."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel.server.http.body import decode_json, json_response
from manylabel.server.http.errors import HTTPRefusal
from manylabel.server.routes.tei import to_label_scores
from manylabel.server.schemas.huggingface import HfParameters, HfRequest
from manylabel.server.service import Service

_DECODER = msgspec.json.Decoder(HfRequest)


class HuggingFaceRoutes:
    """`POST /` and `POST /models/M`."""

    protocol = "hf"

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes to mount."""
        return [
            Route("/", self.classify, methods=["POST"]),
            Route("/models/{model:path}", self.classify, methods=["POST"]),
        ]

    async def classify(self, request: Request) -> Response:
        """Return a list of labels and probabilities for each text."""
        self._service.check_name(request.path_params.get("model"))
        body = decode_json(await self._service.bodies.read(request), _DECODER)
        parameters = body.parameters or HfParameters()
        if parameters.function_to_apply in ("softmax", "none"):
            raise HTTPRefusal(
                422,
                "malformed",
                f"function_to_apply is {parameters.function_to_apply!r}, but this model's labels are independent; "
                "only 'sigmoid' is supported.",
            )
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        computed = await self._service.compute(request, texts)
        return json_response([to_label_scores(result, computed.model, parameters.top_k) for result in computed.results])
