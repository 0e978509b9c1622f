"""The web page at `/` and the API documentation at `/docs`; neither loads anything from other hosts.

- `index.html`, `page.css`, `page.js`: the page, which calls `/v1`.
- `docs`: renders an OpenAPI document as HTML.

`routes.page` serves them.
"""
