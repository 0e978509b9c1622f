"""The Python backend's file in a Triton repository: requests to tensors. Triton's Python must have `manylabel`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manylabel.engines.triton.tokenizer_backend import PaddingTokenizer, TokenizerSettings
from manylabel.errors import ManylabelError, MissingDependency

try:
    import triton_python_backend_utils as pb_utils
except ImportError as exc:
    raise MissingDependency("triton_python_backend_utils exists only inside Triton Inference Server.") from exc


class TritonPythonModel:
    """The class that Triton's Python backend instantiates; Triton defines its name and methods."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer that lies beside this file."""
        folder = Path(args["model_repository"]) / args["model_version"]
        parameters = json.loads(args["model_config"])["parameters"]
        self._tokenizer = PaddingTokenizer(
            (folder / "tokenizer.json").read_bytes(),
            TokenizerSettings.from_text(parameters["settings"]["string_value"]),
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Return a response for each request, in order. A request with a bad text gets an error of its own."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy().reshape(-1).tolist()
        try:
            tensors = self._tokenizer.tensors(texts)
        except ManylabelError as exc:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(exc)))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in tensors.items()])
