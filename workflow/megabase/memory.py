"""How this process gets the memory of long tensors from the system."""

from __future__ import annotations

import ctypes
import sys

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
