"""A client that scores texts on a running server, in whichever protocol it speaks, with the standard library alone.

Sources: `router/src/http` of huggingface/text-embeddings-inference (`POST /predict`); of kserve,
`open-inference-protocol/specification/protocol/inference_rest.md`, and `kserve/python/huggingfaceserver`, which returns
dictionaries as text in Python's notation.
"""

import json
import re
from abc import ABC, abstractmethod
from ast import literal_eval
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray

from manylabel.errors import InputError

TIMEOUT = 60.0
"""Seconds for one request: some servers load their model on the first one."""

Rows = list[Mapping[str, float]]
"""For each text, scores by the labels' names or numbers."""


@dataclass(frozen=True)
class EndpointScores:
    """The scores that an endpoint returned.

    Attributes:
        protocol: The name of its protocol.
        values: Shape `(n_texts, n_labels)`, in the bundle's column order.
    """

    protocol: str
    values: NDArray[np.float64]


class EndpointClient:
    """Sends JSON to one server.

    Args:
        url: `http://` or `https://`, optionally with the path of a route.
        key: Sent as `Authorization: Bearer`, unless it is empty.

    Raises:
        InputError: The URL is neither.
    """

    def __init__(self, url: str, key: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"{url!r} is not an endpoint: expected http://HOST:PORT or https://HOST.")
        self.path = parts.path.rstrip("/")
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def request(self, path: str, body: object = None) -> Any:
        """Return a route's response: GET without a body, POST with one; `None` if the route does not exist.

        Raises:
            InputError: The server cannot be reached, or it rejects the request.
        """
        url = self._root + path
        data = None if body is None else json.dumps(body).encode()
        request = Request(url, data, self._headers)  # noqa: S310  # http or https, as the constructor checked
        try:
            with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310  # as above
                return json.load(response)
        except HTTPError as exc:
            with exc:
                if exc.code in (404, 405, 501):
                    return None
                detail = exc.read(500).decode("utf-8", "replace").strip()
            raise InputError(f"{url} returned {exc.code} {exc.reason}: {detail or 'without details'}") from exc
        except (URLError, OSError, HTTPException) as exc:
            raise InputError(f"{url} cannot be reached: {getattr(exc, 'reason', exc)}. Is the server running?") from exc
        except ValueError as exc:
            raise InputError(f"{url} did not return JSON. Is it a classification server?") from exc


@dataclass(frozen=True)
class Route:
    """Where a protocol's routes start, and which model is asked.

    Attributes:
        base: The path before the protocol's own.
        model: The model's name; empty to ask for the first one.
    """

    base: str
    model: str = ""


class EndpointProtocol(ABC):
    """A way to send texts and read scores.

    Attributes:
        name: For the reader.
        pattern: Matches the path of one of its routes; groups are what precedes it and the model's name.
    """

    name: str
    pattern: str

    def match(self, path: str) -> Route | None:
        """Return the route if a path belongs to this protocol."""
        match = re.fullmatch(self.pattern, path)
        return Route(*match.groups()) if match else None

    @abstractmethod
    def score(self, client: EndpointClient, route: Route, texts: Sequence[str]) -> Rows | None:
        """Return the scores of texts; `None` if the server does not speak this protocol."""


class Manylabel(EndpointProtocol):
    """`manylabel serve`."""

    name = "manylabel"
    pattern = "(.*)/v1/classify"

    def score(self, client: EndpointClient, route: Route, texts: Sequence[str]) -> Rows | None:
        """Return the scores of texts; `None` if the server does not speak this protocol."""
        response = client.request(f"{route.base}/v1/classify", {"inputs": list(texts)})
        return None if response is None else [each["probabilities"] for each in response["predictions"]]


class TextEmbeddingsInference(EndpointProtocol):
    """Hugging Face's text-embeddings-inference."""

    name = "text-embeddings-inference"
    pattern = "(.*)/predict"

    def score(self, client: EndpointClient, route: Route, texts: Sequence[str]) -> Rows | None:
        """Return the scores of texts; `None` if the server does not speak this protocol."""
        body = {"inputs": [[text] for text in texts], "truncate": True}
        response = client.request(f"{route.base}/predict", body)
        return None if response is None else [{each["label"]: each["score"] for each in row} for row in response]


class OpenInference(EndpointProtocol):
    """The Open Inference Protocol v2 of KServe and Triton."""

    name = "Open Inference Protocol v2"
    pattern = "(.*)/v2/models/([^/]+)(?:/versions/[^/]+)?(?:/infer)?"

    def score(self, client: EndpointClient, route: Route, texts: Sequence[str]) -> Rows | None:
        """Return the scores of texts; `None` if the server does not speak this protocol."""
        model = (
            route.model
            or _first_model(client.request(f"{route.base}/v2/models"))
            or _first_model(client.request(f"{route.base}/v2/repository/index", {}))
        )
        path = f"{route.base}/v2/models/{quote(model)}"
        metadata = client.request(path) if model else None
        if metadata is None:
            return None
        inputs = metadata.get("inputs") or [{"name": "input-0", "datatype": "BYTES"}]
        if len(inputs) != 1 or inputs[0]["datatype"] not in ("BYTES", "STRING"):
            names = ", ".join(f"{each['name']} ({each['datatype']})" for each in inputs)
            raise InputError(f"{model} takes {names} instead of texts: without its own tokenizer it cannot be checked.")
        tensor = {"name": inputs[0]["name"], "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
        outputs = client.request(f"{path}/infer", {"inputs": [tensor]})["outputs"]
        labels = next((each["data"] for each in outputs if each["name"] == "labels"), None)
        floats = (each for each in outputs if each["datatype"] in ("FP32", "FP64") and len(each["shape"]) == 2)
        scores = next(floats, None)
        if scores is None:
            return [_parse_row(element) for element in outputs[0]["data"]]
        matrix = np.reshape(scores["data"], scores["shape"])
        return [dict(zip(labels or map(str, range(len(row))), row, strict=True)) for row in matrix.tolist()]


class KServeV1(EndpointProtocol):
    """KServe's first protocol."""

    name = "KServe v1"
    pattern = "(.*)/v1/models/([^/:]+)(?::predict)?"

    def score(self, client: EndpointClient, route: Route, texts: Sequence[str]) -> Rows | None:
        """Return the scores of texts; `None` if the server does not speak this protocol."""
        model = route.model or _first_model(client.request(f"{route.base}/v1/models"))
        path = f"{route.base}/v1/models/{quote(model)}:predict"
        response = client.request(path, {"instances": list(texts)}) if model else None
        return None if response is None else [_parse_row(element) for element in response["predictions"]]


PROTOCOLS: Sequence[EndpointProtocol] = (Manylabel(), TextEmbeddingsInference(), OpenInference(), KServeV1())
"""In the order in which they are tried."""


def request_scores(client: EndpointClient, texts: Sequence[str], labels: Sequence[str]) -> EndpointScores:
    """Score texts in the first protocol that the server speaks.

    Args:
        client: The server. If the path of its URL belongs to a protocol, only this one is tried.
        texts: The texts.
        labels: The bundle's labels in column order.

    Raises:
        InputError: The server speaks none of the protocols, rejects the texts, or returns other labels.
    """
    matches = [(protocol, route) for protocol in PROTOCOLS if (route := protocol.match(client.path))]
    for protocol, route in matches or [(protocol, Route(client.path)) for protocol in PROTOCOLS]:
        try:
            rows = protocol.score(client, route, texts)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as exc:
            raise InputError(f"the response is not one of {protocol.name} ({type(exc).__name__}: {exc}).") from exc
        if rows is not None:
            return EndpointScores(protocol.name, _order_columns(rows, texts, labels))
    raise InputError(
        f"{client.path or 'the server'} speaks none of {', '.join(each.name for each in PROTOCOLS)}: expected "
        "/v1/classify, /predict, /v2/models/NAME or /v1/models/NAME:predict. Give the full URL of the model's route."
    )


def _first_model(response: Any) -> str:
    """Return the name of a server's first model, or an empty string."""
    models = response.get("models", []) if isinstance(response, dict) else response or []
    first = models[0] if models else ""
    return str(first.get("name", "")) if isinstance(first, dict) else str(first)


def _parse_row(element: Any) -> Mapping[str, float]:
    """Return a text's scores from a dictionary, or from its text in JSON or Python notation."""
    if isinstance(element, str):
        with suppress(ValueError, SyntaxError):
            element = literal_eval(element)
    if isinstance(element, Mapping):
        return {str(label): float(score) for label, score in element.items()}
    raise InputError(
        f"the endpoint returns one class per text, such as {str(element)[:40]!r}, instead of scores: it treats the "
        "model as multi-class. Make it return probabilities (KServe: --return_probabilities), or use manylabel serve."
    )


def _order_columns(rows: Rows, texts: Sequence[str], labels: Sequence[str]) -> NDArray[np.float64]:
    """Return scores in the bundle's column order, by the labels' names, else by their numbers."""
    if len(rows) != len(texts):
        raise InputError(f"the endpoint returned scores for {len(rows)} of {len(texts)} texts.")
    numbers = [[f"{prefix}{column}" for column in range(len(labels))] for prefix in ("", "LABEL_")]
    for names in (labels, *numbers):
        if all(set(row) == set(names) for row in rows):
            return np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
    found = sorted(set().union(*rows))
    raise InputError(
        f"the endpoint returns {len(found)} labels ({', '.join(found[:6])} ...) and the bundle has {len(labels)} "
        f"({', '.join(labels[:6])} ...). It serves another model, or returns only the top few labels."
    )
