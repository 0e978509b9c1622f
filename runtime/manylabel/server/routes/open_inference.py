"""Routes of the Open Inference Protocol v2 over REST, with the binary tensors that Triton's client sends.

Sources: `specification/protocol/inference_rest.md` of kserve/open-inference-protocol;
`docs/protocol/extension_binary_data.md` and `extension_model_repository.md` of triton-inference-server/server.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manylabel import __version__
from manylabel.server.http.body import BINARY_HEADER, decode_json, json_response
from manylabel.server.http.errors import HTTPRefusal
from manylabel.server.routes.open_inference_tensors import build_outputs, check_outputs, read_texts
from manylabel.server.schemas.open_inference import (
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


class OpenInferenceRoutes:
    """`/v2`."""

    protocol = "oip"

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes to mount."""
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
        """Take texts as a tensor, and return probabilities as a tensor."""
        self._check_path(request)
        body = await self._service.bodies.read(request)
        header, tail = _split_binary(body, request.headers.get(BINARY_HEADER))
        infer_request = decode_json(header, _DECODER)
        check_outputs(infer_request)
        texts = read_texts(infer_request, tail)
        computed = await self._service.compute(request, texts)
        outputs, binary = build_outputs(infer_request, computed)
        response = OipInferResponse(computed.model.name, computed.model.version, outputs)
        if infer_request.id is not None:
            response.id = infer_request.id
        if not binary:
            return json_response(response)
        encoded = msgspec.json.encode(response)
        headers = {BINARY_HEADER: str(len(encoded))}
        return Response(encoded + b"".join(binary), 200, headers, "application/octet-stream")

    async def server(self, request: Request) -> Response:
        """Return the server's metadata."""
        return json_response(OipServerMetadata("manylabel", __version__, ["binary_tensor_data", "model_repository"]))

    async def live(self, request: Request) -> Response:
        """Answer the liveness probe: 200 while the process can respond."""
        return json_response(OipLive(True))

    async def ready(self, request: Request) -> Response:
        """Answer the readiness probe: 200 while requests are accepted, else 503."""
        return json_response(OipReady(self._service.ready), status=200 if self._service.ready else 503)

    async def model_ready(self, request: Request) -> Response:
        """Answer the model's readiness probe: 200 while requests are accepted, else 503."""
        self._check_path(request)
        ready = self._service.ready
        return json_response(OipModelReady(self._service.model.name, ready), status=200 if ready else 503)

    async def model(self, request: Request) -> Response:
        """Return the model's metadata: its input and output tensors."""
        self._check_path(request)
        model = self._service.model
        n_labels = len(model.labels)
        return json_response(
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
        """Return the index of the model repository: the one served model."""
        model, state = self._service.model, "READY" if self._service.ready else "UNAVAILABLE"
        reason = "" if self._service.ready else self._service.phase
        return json_response([OipRepositoryEntry(model.name, model.version, state, reason)])

    async def load(self, request: Request) -> Response:
        """Reload the bundle from the folder that the server was started with."""
        self._service.check_name(request.path_params["model"])
        if not self._service.settings.api_key:
            raise HTTPRefusal(
                401, "key", "a reload over HTTP requires a server with an API key; start it with one, or send SIGHUP."
            )
        changed = await self._service.reload()
        return json_response(OipLoaded(self._service.model.name, self._service.model.version, changed))

    def _check_path(self, request: Request) -> None:
        self._service.check_name(request.path_params["model"], request.path_params.get("version"))


def _split_binary(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """Split a body into its JSON and the binary tensors after it."""
    if header_length is None:
        return body, memoryview(b"")
    if not header_length.isascii() or not header_length.isdigit() or int(header_length[:20]) > len(body):
        raise HTTPRefusal(
            400,
            "malformed",
            f"Inference-Header-Content-Length is {header_length[:40]!r}; the body has {len(body)} bytes.",
        )
    length = int(header_length)
    return body[:length], memoryview(body)[length:]
