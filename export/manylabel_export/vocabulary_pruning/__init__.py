"""Vocabulary pruning: keep only the tokens that a corpus uses, for a smaller table of embeddings.

In reading order: `model` (the export source: which tokens are kept, and the effect on other texts) and `tokenizer` (the
`tokenizer.json`).
"""

from manylabel.errors import require_extra

require_extra("export", "torch", "transformers")
