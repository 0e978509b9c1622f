"""Requests and responses as msgspec structs, one module per protocol.

| module | routes | error body |
| --- | --- | --- |
| `v1` | `POST /v1/classify`, `POST /v1/explain`, `GET /v1/model` | `Problem` (`application/problem+json`) |
| `tei` | `POST /predict`, `GET /info`, `GET /health`, `GET /metrics` | `TeiError` |
| `open_inference` | `/v2`, `/v2/health/...`, `/v2/models/M[/versions/V]...`, `/v2/repository/...` | `OipError` |
| `huggingface` | `POST /`, `POST /models/M` | `HfError` |

A request's fields are validated strictly, but unknown fields are ignored, as the protocols' own servers do. Responses
contain exactly the listed fields. `http.openapi` generates the OpenAPI document from these structs.

Every response carries `X-Request-Id`; predictions also carry `Server-Timing` (`queue`, `tokenize`, `inference`,
`total`, in milliseconds).
"""

from manylabel.errors import require_extra

require_extra("server", "msgspec", "starlette", "httptools", "prometheus_client")
