"""The model card of a bundle: its README.md, in the form that model hubs read.

`model_card` fills `templates/model_card.md`, with tables from `tables` and metadata of the Hugging Face Hub.
"""

from manylabel.errors import require_extra

require_extra("export", "jinja2")
