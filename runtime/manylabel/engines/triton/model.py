"""The Python backend's file in a Triton repository: requests to tensors. Triton's Python needs `manylabel`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from manylabel.engines.triton.tokenizer_backend import Settings, Tokenising
from manylabel.errors import ManylabelError


class TritonPythonModel:
    """Under the name and with the methods that Triton looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the tokenizer that lies beside this file."""
        folder = Path(args["model_repository"]) / args["model_version"]
        parameters = json.loads(args["model_config"])["parameters"]
        self._tokenising = Tokenising(
            (folder / "tokenizer.json").read_bytes(), Settings.from_text(parameters["settings"]["string_value"])
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """A response to each request, in order. One with a bad text is an error of its own."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy().reshape(-1).tolist()
        try:
            tensors = self._tokenising.tensors(texts)
        except ManylabelError as exc:
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(exc)))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in tensors.items()])
