"""Raw signal to normalized tracks: coverage, cut sites, contacts, splicing, and the track table.

The stage's functions are found here by name, each loaded when it is first asked for: contact maps need
libraries that a job on coverage should not wait for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "check_tracks": "quality",
    "list_tracks": "table",
    "normalize_contacts": "contacts",
    "normalize_splicing": "splicing",
    "normalize_track": "coverage",
}
__all__ = ["check_tracks", "list_tracks", "normalize_contacts", "normalize_splicing", "normalize_track"]


def __getattr__(name: str) -> Any:
    """The stage's function of that name, from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
