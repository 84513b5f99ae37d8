"""Scoring with what memory there is: a batch that does not fit is halved, until a single sequence is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from megabase.logs import LOGGER

# What libraries say whose error has no class of its own.
SAID = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


class MemoryFailure(ValueError):
    """Not even one sequence fits into the memory."""


def score_fitting(engine: Any, variants: Sequence[Any]) -> list[Any]:
    """`engine.score(variants)`; halves `engine.batch_size` for good when memory runs out, and says so.

    A score does not depend on the batch size. MemoryFailure when one sequence at a time does not fit.
    """
    while True:
        try:
            return engine.score(variants)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            said = " ".join(str(error).split())[:200] or type(error).__name__
        # Here, and not above: the error holds the frames of the failed batch, and with them its tensors.
        _give_back()
        if engine.batch_size <= 1:
            raise MemoryFailure(
                f"out of memory with one sequence of {engine.settings.window} bases at a time ({said}); ask "
                "for a device with more memory, or score in a shorter window (scoring.window)"
            )
        engine.batch_size //= 2
        LOGGER.warning("out of memory (%s): %d sequences at a time from here on", said, engine.batch_size)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is that of an allocation that failed, on an accelerator or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in SAID)


def _give_back() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
