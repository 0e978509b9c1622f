"""Files of the page with the headers that keep it harmless."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",  # the icon
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # with the next: no string ever becomes HTML or code
        "trusted-types 'none'",
    )
)
"""The Content-Security-Policy: own files only, and texts stay texts even where the script should err."""

HEADERS = {
    "Cache-Control": "no-cache",  # a new release's page is seen at once
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Asset:
    """A response: what it holds, what that is, and what else is said of it."""

    body: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=lambda: HEADERS)


def assets() -> dict[str, Asset]:
    """The page at `/` and its two files, by path."""
    names = {
        "/": ("index.html", "text/html; charset=utf-8"),
        "/page/page.css": ("page.css", "text/css; charset=utf-8"),
        "/page/page.js": ("page.js", "text/javascript; charset=utf-8"),
    }
    folder = files("manylabel.server.page")
    return {path: Asset(folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in names.items()}
