"""A classifier as a function that a cloud starts on demand, in the shape of AWS Lambda behind an HTTP API.

Needs `pip install "manylabel[cpu]"` and a bundle, in the image beside this file or at BUNDLE. What a cold start takes:
benchmarks/experiments/serverless_cold_start.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

from manylabel import Classifier, InputError

# Loaded when the module is, before the first event; kept as long as the cloud keeps the process.
classifier = Classifier.load(os.environ.get("BUNDLE", Path(__file__).with_name("bundle")))


def handler(event: dict[str, Any], context: object = None) -> dict[str, Any]:
    """Answer `{"texts": [...]}` with the labels of each."""
    body = event.get("body") or ""
    try:
        asked = json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)
        labels = classifier.predict(asked["texts"])
    except (ValueError, KeyError, TypeError, InputError) as exc:
        return _answer(400, {"error": f"expected {{'texts': [...]}}: {exc}"})
    return _answer(200, {"labels": labels})


def _answer(status: int, content: object) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(content, ensure_ascii=False),
    }
