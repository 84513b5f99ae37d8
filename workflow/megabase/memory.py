"""How this process gets the memory of long tensors from the system."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

LARGE = 4 << 30  # bytes of a process from which its holes are worth a call
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of glibc's malloc.h
_NEVER = 2**31 - 1


def keep_large_blocks() -> bool:
    """Let glibc reuse freed blocks of any size instead of giving long ones back to the system; True if done.

    A block above 32 MB is otherwise mapped afresh for every tensor, and the kernel clears it page by page,
    which is felt at published widths. It holds for the whole process, whose memory then stays at
    its peak; so the commands call it, and whoever imports the package decides. Elsewhere than on Linux with
    glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))


def give_back_holes(above: int = LARGE) -> bool:
    """Give free memory between tensors back to the system, if the process has more than `above` bytes.

    Called between steps of a training, when the least is alive: what one step leaves between the tensors that
    stay does not fit the next one, and would add up. True if it was done; with glibc on Linux alone.
    """
    statistics = Path("/proc/self/statm")
    if not sys.platform.startswith("linux") or not statistics.exists():
        return False
    if int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") <= above:
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
