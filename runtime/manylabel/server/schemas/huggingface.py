"""The protocol of Hugging Face's Inference API for text classification: `POST /`, `POST /models/M`."""

from typing import Literal

from msgspec import Struct

from manylabel.server.schemas.v1 import TopK


class HfParameters(Struct):
    """Scoring parameters. Only the sigmoid is supported, as labels are independent."""

    top_k: TopK | None = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class HfRequest(Struct):
    """One text or a list of texts. The response is a list of labels for each, most probable first."""

    inputs: str | list[str]
    parameters: HfParameters | None = None


class HfError(Struct):
    """An error in the format of Hugging Face's Inference API."""

    error: str
