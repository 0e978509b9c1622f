"""Logs, metrics and traces. None of them contains a text or a key.

In reading order:

- `access_log`: `RequestRecord`, the record of a finished request that all recorders receive; the log's formats.
- `metrics`: the Prometheus metrics of `/metrics`.
- `drift_metrics`: gauges of the drift between served texts and the bundle's validation texts.
- `tracing`: OpenTelemetry spans; requires the extra `server-otel`.
"""

from manylabel.errors import require_extra

require_extra("server", "msgspec", "starlette", "httptools", "prometheus_client")
