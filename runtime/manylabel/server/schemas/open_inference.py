"""The Open Inference Protocol v2 (OIP) of KServe and Triton: tensors in, tensors out."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field


class OipInput(Struct):
    """An input tensor: `text`, BYTES, shape `[n]` or `[n, 1]`. `data` is absent if the tensor follows in binary."""

    name: str
    shape: list[Annotated[int, Meta(ge=0)]]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


class OipRequestedOutput(Struct):
    """A requested output tensor: `probabilities`, `labels` or `decisions`."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


class OipInferRequest(Struct):
    """Texts as a tensor."""

    inputs: list[OipInput]
    id: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: list[OipRequestedOutput] = field(default_factory=list)


class OipOutput(Struct, omit_defaults=True):
    """An output tensor.

    `probabilities` is FP32 of shape `[n, n_labels]`. `labels` is BYTES of shape `[n_labels]`: the column names.
    `decisions`, on request, is BOOL of shape `[n, n_labels]`: whether a probability reaches its label's threshold.
    """

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET


class OipInferResponse(Struct, omit_defaults=True):
    """The output tensors for the texts. `id` repeats the request's `id`, if it has one."""

    model_name: str
    model_version: str
    outputs: list[OipOutput]
    id: str | UnsetType = UNSET


class OipTensorMetadata(Struct):
    """A tensor's name, data type and shape; -1 marks a variable dimension."""

    name: str
    datatype: str
    shape: list[int]


class OipModelMetadata(Struct):
    """The model and its tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[OipTensorMetadata]
    outputs: list[OipTensorMetadata]


class OipServerMetadata(Struct):
    """The server's name, version and supported protocol extensions."""

    name: str
    version: str
    extensions: list[str]


class OipLive(Struct):
    """The result of the liveness probe."""

    live: bool


class OipReady(Struct):
    """The result of the server's readiness probe."""

    ready: bool


class OipModelReady(Struct):
    """The result of the model's readiness probe."""

    name: str
    ready: bool


class OipLoaded(Struct):
    """The result of a reload: the version now served, and whether it differs from the previous one."""

    name: str
    version: str
    changed: bool


class OipRepositoryEntry(Struct):
    """A model in the repository index."""

    name: str
    version: str
    state: str
    reason: str = ""


class OipError(Struct):
    """An error in the format of the Open Inference Protocol."""

    error: str
