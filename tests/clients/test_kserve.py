"""KServe's REST client against a running server."""

import asyncio
import importlib.util
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from manylabel import Classifier

if importlib.util.find_spec("kserve") is None:
    pytest.skip("needs kserve", allow_module_level=True)
with warnings.catch_warnings():  # kserve's own, and those of its dependencies
    warnings.simplefilter("ignore")
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

TEXTS = ("the courier was late", "very good and cheap")


def with_client(use: Callable[[Any], Awaitable[Any]]) -> Any:
    """Return the result of a coroutine that uses a client."""

    async def run() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
        try:
            return await use(client)
        finally:
            await client.close()

    return asyncio.run(run())


def request(*, binary: bool) -> Any:
    tensor = InferInput("text", [len(TEXTS)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in TEXTS], dtype=np.object_), binary_data=binary)
    return InferRequest(model_name="tiny", request_id="mine", infer_inputs=[tensor])


@pytest.mark.parametrize("binary", [True, False])
def test_infer_matches_the_classifier(url: str, classifier: Classifier, binary: bool) -> None:
    response = with_client(lambda client: client.infer(url, request(binary=binary), model_name="tiny"))
    outputs = {each.name: each for each in response.outputs}
    assert np.array_equal(outputs["probabilities"].as_numpy(), classifier.predict_proba(TEXTS))
    assert (response.id, response.model_name) == ("mine", "tiny")


def test_liveness_and_readiness(url: str) -> None:
    assert with_client(lambda client: client.is_server_live(url))
    assert with_client(lambda client: client.is_server_ready(url))
    assert with_client(lambda client: client.is_model_ready(url, "tiny"))
