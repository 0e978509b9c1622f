"""Texts to a running server, in whatever protocol it speaks, by the standard library: nothing is to be installed.

Sources: `router/src/http` of huggingface/text-embeddings-inference (`POST /predict`); of kserve,
`open-inference-protocol/specification/protocol/inference_rest.md`, and `kserve/python/huggingfaceserver`, which answers
dictionaries as texts in Python's form.
"""

import json
import re
from ast import literal_eval
from collections.abc import Callable, Mapping, Sequence
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
"""Seconds for one request: a server that loads its model at the first one takes some."""

Rows = list[Mapping[str, float]]
"""What an endpoint says of each text: scores by the labels' names or numbers."""


@dataclass(frozen=True)
class Scores:
    """What an endpoint said of texts.

    Attributes:
        protocol: The one it spoke.
        values: Shape `(n_texts, n_labels)`, in the bundle's column order.
    """

    protocol: str
    values: NDArray[np.float64]


class Client:
    """Sends JSON to one server.

    Args:
        url: Where it is, `http://` or `https://`, perhaps with the path of a route.
        key: Sent as `Authorization: Bearer`, where it is not empty.

    Raises:
        InputError: It is no such URL.
    """

    def __init__(self, url: str, key: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"{url!r} is no endpoint: expected http://HOST:PORT or https://HOST.")
        self.path = parts.path.rstrip("/")
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def ask(self, path: str, body: object = None) -> Any:
        """What a route answers, GET without a body and POST with one; None where there is no such route.

        Raises:
            InputError: The server cannot be reached, or refuses.
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
                said = exc.read(500).decode("utf-8", "replace").strip()
            raise InputError(f"{url} answered {exc.code} {exc.reason}: {said or 'nothing more'}") from exc
        except (URLError, OSError, HTTPException) as exc:
            raise InputError(f"{url} cannot be reached: {getattr(exc, 'reason', exc)}. Is the server up?") from exc
        except ValueError as exc:
            raise InputError(f"{url} answered something else than JSON; it is no server of a classifier.") from exc


def ask(client: Client, texts: Sequence[str], labels: Sequence[str]) -> Scores:
    """Send texts in the first protocol that the server speaks.

    Args:
        client: The server. A path in its URL that belongs to a protocol chooses that one.
        texts: The texts.
        labels: The bundle's, in column order.

    Raises:
        InputError: It speaks none of them, refuses the texts, or gives other labels.
    """
    named = {name: found for name, (route, _) in PROTOCOLS.items() if (found := re.fullmatch(route, client.path))}
    for name, (_, send) in PROTOCOLS.items():
        if named and name not in named:
            continue  # the path is another protocol's
        base, model = (*named[name].groups(), "")[:2] if named else (client.path, "")
        try:
            rows = send(client, base, model, texts)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as exc:
            raise InputError(f"the answer is not what {name} gives ({type(exc).__name__}: {exc}).") from exc
        if rows is not None:
            return Scores(name, _in_columns(rows, texts, labels))
    raise InputError(
        f"{client.path or 'the server'} speaks none of {', '.join(PROTOCOLS)}: expected /v1/classify, /predict, "
        "/v2/models/NAME or /v1/models/NAME:predict. Give the whole URL of the model's route."
    )


def _own(client: Client, base: str, model: str, texts: Sequence[str]) -> Rows | None:
    answer = client.ask(f"{base}/v1/classify", {"inputs": list(texts)})
    return None if answer is None else [each["probabilities"] for each in answer["predictions"]]


def _tei(client: Client, base: str, model: str, texts: Sequence[str]) -> Rows | None:
    answer = client.ask(f"{base}/predict", {"inputs": [[text] for text in texts], "truncate": True})
    return None if answer is None else [{each["label"]: each["score"] for each in row} for row in answer]


def _oip(client: Client, base: str, model: str, texts: Sequence[str]) -> Rows | None:
    model = (
        model
        or _only_model(client.ask(f"{base}/v2/models"))
        or _only_model(client.ask(f"{base}/v2/repository/index", {}))
    )
    path = f"{base}/v2/models/{quote(model)}"
    metadata = client.ask(path) if model else None
    if metadata is None:
        return None
    inputs = metadata.get("inputs") or [{"name": "input-0", "datatype": "BYTES"}]
    if len(inputs) != 1 or inputs[0]["datatype"] not in ("BYTES", "STRING"):
        wanted = ", ".join(f"{each['name']} ({each['datatype']})" for each in inputs)
        raise InputError(f"{model} takes {wanted}, and no texts: it has no tokenizer of its own that could be checked.")
    tensor = {"name": inputs[0]["name"], "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
    outputs = client.ask(f"{path}/infer", {"inputs": [tensor]})["outputs"]
    names = next((each["data"] for each in outputs if each["name"] == "labels"), None)
    scores = next((each for each in outputs if each["datatype"] in ("FP32", "FP64") and len(each["shape"]) == 2), None)
    if scores is None:
        return [_row(element) for element in outputs[0]["data"]]
    table = np.reshape(scores["data"], scores["shape"])
    return [dict(zip(names or map(str, range(len(row))), row, strict=True)) for row in table.tolist()]


def _kserve(client: Client, base: str, model: str, texts: Sequence[str]) -> Rows | None:
    model = model or _only_model(client.ask(f"{base}/v1/models"))
    answer = client.ask(f"{base}/v1/models/{quote(model)}:predict", {"instances": list(texts)}) if model else None
    return None if answer is None else [_row(element) for element in answer["predictions"]]


PROTOCOLS: dict[str, tuple[str, Callable[[Client, str, str, Sequence[str]], Rows | None]]] = {
    "manylabel": ("(.*)/v1/classify", _own),
    "text-embeddings-inference": ("(.*)/predict", _tei),
    "Open Inference Protocol v2": ("(.*)/v2/models/([^/]+)(?:/versions/[^/]+)?(?:/infer)?", _oip),
    "KServe v1": ("(.*)/v1/models/([^/:]+)(?::predict)?", _kserve),
}
"""By name: a path of the protocol, with what stands before it and the model's name, and what sends texts in it."""


def _only_model(answer: Any) -> str:
    """The name of a server's first model, or nothing."""
    models = answer.get("models", []) if isinstance(answer, dict) else answer or []
    first = models[0] if models else ""
    return str(first.get("name", "")) if isinstance(first, dict) else str(first)


def _row(element: Any) -> Mapping[str, float]:
    """One text's scores from a dictionary, or from the text of one, in JSON's form or Python's."""
    if isinstance(element, str):
        with suppress(ValueError, SyntaxError):
            element = literal_eval(element)
    if isinstance(element, Mapping):
        return {str(label): float(score) for label, score in element.items()}
    raise InputError(
        f"the endpoint gives one class a text, such as {str(element)[:40]!r}, and no scores: it takes the model for a "
        "multi-class one. Have it return probabilities (KServe: --return_probabilities), or serve with manylabel serve."
    )


def _in_columns(rows: Rows, texts: Sequence[str], labels: Sequence[str]) -> NDArray[np.float64]:
    """Scores in the bundle's column order, by the labels' names, or by their numbers where there are no names."""
    if len(rows) != len(texts):
        raise InputError(f"the endpoint answered {len(rows)} of {len(texts)} texts.")
    numbered = [{label: f"{prefix}{at}" for at, label in enumerate(labels)} for prefix in ("", "LABEL_")]
    for names in ({label: label for label in labels}, *numbered):
        if all(set(row) == set(names.values()) for row in rows):
            return np.array([[row[names[label]] for label in labels] for row in rows], dtype=np.float64)
    theirs = sorted(set().union(*rows))
    raise InputError(
        f"the endpoint gives {len(theirs)} labels ({', '.join(theirs[:6])} ...) and the bundle has {len(labels)} "
        f"({', '.join(labels[:6])} ...). It serves another model, or cuts its answer to the first few."
    )
