"""Open Inference Protocol v2 over REST, with the binary tensors that Triton's client sends.

Source: `specification/protocol/inference_rest.md` of kserve/open-inference-protocol; of triton-inference-server/server
`docs/protocol/extension_binary_data.md` and `extension_model_repository.md`.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel import __version__
from manylabel.server.http.errors import Refusal
from manylabel.server.http.json_codec import decode, reply
from manylabel.server.http.request_body import BINARY_HEADER
from manylabel.server.routes.open_inference_tensors import check_outputs, outputs_of, texts_of
from manylabel.server.schemas.all import (
    OipInferRequest,
    OipInferResponse,
    OipLive,
    OipLoaded,
    OipModelMetadata,
    OipModelReady,
    OipReady,
    OipRepositoryEntry,
    OipServerMetadata,
    OipTensorMetadata,
)
from manylabel.server.service import Service

_DECODER = msgspec.json.Decoder(OipInferRequest)
MODEL = "/v2/models/{model}"
VERSION = MODEL + "/versions/{version}"


class OipRoutes:
    """`/v2`."""

    protocol = "oip"

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """What to mount."""
        routes = [
            Route("/v2", self.server, methods=["GET"]),
            Route("/v2/", self.server, methods=["GET"]),
            Route("/v2/health/live", self.live, methods=["GET"]),
            Route("/v2/health/ready", self.ready, methods=["GET"]),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/v2/repository/models/{model}/load", self.load, methods=["POST"]),
        ]
        for path in (MODEL, VERSION):
            routes += [
                Route(f"{path}/infer", self.infer, methods=["POST"]),
                Route(f"{path}/ready", self.model_ready, methods=["GET"]),
                Route(path, self.model, methods=["GET"]),
            ]
        return routes

    async def infer(self, request: Request) -> Response:
        """Texts as a tensor in, probabilities as a tensor out."""
        self._check_path(request)
        body = await self._service.bodies.read(request)
        header, tail = _split(body, request.headers.get(BINARY_HEADER))
        asked = decode(header, _DECODER)
        check_outputs(asked)
        texts = texts_of(asked, tail)
        answered = await self._service.answer(request, texts)
        outputs, binary = outputs_of(asked, answered)
        model = answered.model
        response = OipInferResponse(model.name, model.version, outputs)
        if asked.id is not None:
            response.id = asked.id
        if not binary:
            return reply(response)
        encoded = msgspec.json.encode(response)
        headers = {BINARY_HEADER: str(len(encoded))}
        return Response(encoded + b"".join(binary), 200, headers, "application/octet-stream")

    async def server(self, request: Request) -> Response:
        """What the server is."""
        return reply(OipServerMetadata("manylabel", __version__, ["binary_tensor_data", "model_repository"]))

    async def live(self, request: Request) -> Response:
        """200 while the process answers at all."""
        return reply(OipLive(True))

    async def ready(self, request: Request) -> Response:
        """200 while texts are taken, else 503."""
        return reply(OipReady(self._service.ready), status=200 if self._service.ready else 503)

    async def model_ready(self, request: Request) -> Response:
        """200 while texts are taken, else 503."""
        self._check_path(request)
        ready = self._service.ready
        return reply(OipModelReady(self._service.model.name, ready), status=200 if ready else 503)

    async def model(self, request: Request) -> Response:
        """The model's tensors."""
        self._check_path(request)
        model = self._service.model
        n_labels = len(model.labels)
        return reply(
            OipModelMetadata(
                model.name,
                [model.version],
                "onnx_onnxv1",
                [OipTensorMetadata("text", "BYTES", [-1])],
                [
                    OipTensorMetadata("probabilities", "FP32", [-1, n_labels]),
                    OipTensorMetadata("labels", "BYTES", [n_labels]),
                    OipTensorMetadata("decisions", "BOOL", [-1, n_labels]),
                ],
            )
        )

    async def index(self, request: Request) -> Response:
        """The models of the repository: this one."""
        model, state = self._service.model, "READY" if self._service.ready else "UNAVAILABLE"
        reason = "" if self._service.ready else self._service.phase
        return reply([OipRepositoryEntry(model.name, model.version, state, reason)])

    async def load(self, request: Request) -> Response:
        """Read the bundle anew from the folder that the server was started with."""
        self._service.check_name(request.path_params["model"])
        if not self._service.settings.api_key:
            raise Refusal(401, "key", "a reload needs a server that was started with a key; or send it SIGHUP.")
        changed = await self._service.reload()
        return reply(OipLoaded(self._service.model.name, self._service.model.version, changed))

    def _check_path(self, request: Request) -> None:
        self._service.check_name(request.path_params["model"], request.path_params.get("version"))


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """The JSON and the binary tensors after it."""
    if header_length is None:
        return body, memoryview(b"")
    if not header_length.isascii() or not header_length.isdigit() or int(header_length[:20]) > len(body):
        raise Refusal(
            400,
            "malformed",
            f"Inference-Header-Content-Length is {header_length[:40]!r}; the body has {len(body)} bytes.",
        )
    length = int(header_length)
    return body[:length], memoryview(body)[length:]
