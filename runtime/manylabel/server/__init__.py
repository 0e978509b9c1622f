"""The HTTP server, `manylabel serve BUNDLE`. Requires the extra `server`.

In reading order:

- `settings`: limits, timeouts and access rules, with their defaults.
- `lifecycle`: `create_app` and `serve`: start, reload, graceful shutdown.
- `app`: the ASGI application; from a request to a response and a record.
- `routes`: one module per protocol; `schemas`: the protocols' requests and responses.
- `service`: the path from texts to results that all routes share.
- `scheduler`: earliest deadline first within fair queueing.
- `worker_pool`: the threads that compute.
- `served_model`: a classifier, and its results for a batch.
- `explain`: explanations in small parts.
- `load_shedding`: admission control under overload.
- `http`: connections, headers, bodies, errors, OpenAPI.
- `observability`: access log, metrics, traces.
- `page`: the web page and the API documentation.
- `cli`: the command.
"""
