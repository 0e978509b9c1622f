"""The HTTP layer: everything that does not depend on a protocol's routes.

In reading order:

- `uvicorn_protocol`: one connection; header deadline, request-smuggling checks, admission check.
- `request_headers`: API key, request ID and timeout of a request.
- `body`: receive a body within limits of size and time, decode JSON, encode JSON.
- `client_disconnect`: cancel the work for a client that has gone.
- `errors`: the reasons for refusing a request, and the error format of each protocol.
- `openapi`: the OpenAPI document.
"""

from manylabel.errors import require_extra

require_extra("server", "msgspec", "starlette", "httptools", "prometheus_client")
