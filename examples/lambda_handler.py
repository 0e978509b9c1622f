"""A classifier as a serverless function, in the format of AWS Lambda behind an HTTP API.

Needs `pip install "manylabel[cpu]"` and a bundle, in the image next to this file or at BUNDLE. For the time of a
cold start see benchmarks/experiments/serverless_cold_start.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

from manylabel import Classifier, InputError

# Loaded with the module, before the first event; kept as long as the process lives.
classifier = Classifier.load(os.environ.get("BUNDLE", Path(__file__).with_name("bundle")))


def handler(event: dict[str, Any], context: object = None) -> dict[str, Any]:
    """Return the labels of each text of `{"texts": [...]}`."""
    body = event.get("body") or ""
    try:
        request = json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)
        labels = classifier.predict(request["texts"])
    except (ValueError, KeyError, TypeError, InputError) as exc:
        return _response(400, {"error": f"expected {{'texts': [...]}}: {exc}"})
    return _response(200, {"labels": labels})


def _response(status: int, content: object) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(content, ensure_ascii=False),
    }
