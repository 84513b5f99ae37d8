"""Sections of the config by stage: what may be set, its type, its default and its words.

`settings.ScoringSettings`, and any other name of the modules here, is imported when it is asked for: to build
the models of all settings takes longer than a command such as `megabase query` takes to answer.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = ("section", "data", "training", "scoring", "run", "listing")


def __getattr__(name: str) -> Any:
    """A section, or function, of one of the modules; AttributeError if none has it."""
    if not name.startswith("_"):
        for module in _MODULES:
            if name in (found := vars(import_module(f"{__name__}.{module}"))):
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
