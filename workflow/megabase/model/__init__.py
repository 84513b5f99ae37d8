"""The AlphaGenome network: one class, three presets, one code path."""

from __future__ import annotations

from megabase.model.alphagenome import AlphaGenome, Embeddings
from megabase.model.checkpoint import from_haiku, load_model, save_model, to_haiku
from megabase.model.sizes import Sizes

__all__ = ["AlphaGenome", "Embeddings", "Sizes", "from_haiku", "load_model", "save_model", "to_haiku"]
