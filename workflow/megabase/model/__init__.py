"""The AlphaGenome network: one class, three presets, one code path.

The names are imported when they are asked for, so that `model.sizes` and `model.flops` do without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from megabase.model.alphagenome import AlphaGenome, Embeddings
    from megabase.model.checkpoint import from_haiku, load_model, save_model, to_haiku
    from megabase.model.sizes import Sizes

_HOMES = {
    "AlphaGenome": "alphagenome", "Embeddings": "alphagenome", "Sizes": "sizes", "from_haiku": "checkpoint",
    "load_model": "checkpoint", "save_model": "checkpoint", "to_haiku": "checkpoint",
}  # fmt: skip

__all__ = ["AlphaGenome", "Embeddings", "Sizes", "from_haiku", "load_model", "save_model", "to_haiku"]


def __getattr__(name: str) -> Any:
    """The class or function `name`, from the module that has it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
