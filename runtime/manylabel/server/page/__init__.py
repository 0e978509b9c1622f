"""The pages for people: `/` to try the model, `/docs` to read the API. Nothing comes from anywhere else.

Knows nothing of the application that serves it: names in, bytes and headers out.
"""

from manylabel.server.page.assets import Asset, assets
from manylabel.server.page.docs import docs_page

__all__ = ["Asset", "assets", "docs_page"]
