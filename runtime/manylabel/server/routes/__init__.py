"""The routes, one module per protocol. Each has a class whose `routes()` lists them; `schemas` has their structs.

- `v1`: the native protocol, `/v1`.
- `tei`: text-embeddings-inference, `/predict`, `/info`, `/health`, `/metrics`.
- `open_inference`: Open Inference Protocol v2, `/v2`; `open_inference_tensors` converts between texts and tensors.
- `huggingface`: Hugging Face's Inference API, `POST /`.
- `page`: the web page at `/`, the API documentation at `/docs`.
"""

from manylabel.errors import require_extra

require_extra("server", "msgspec", "starlette", "httptools", "prometheus_client")
