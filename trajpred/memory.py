"""How the process takes memory from the kernel, and how much what is read may take."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h

UNFOLDED_MIN, UNFOLDED_TIMES = 2**28, 200
"""What is compressed may unfold to so many bytes, or so many times its size; perception has 5 to 30 times."""


def unfolded_max(packed: int) -> int:
    """How many bytes so many may unfold to."""
    return max(UNFOLDED_MIN, UNFOLDED_TIMES * packed)


def keep_freed_memory() -> None:
    """Let glibc keep what is freed instead of giving it back to the kernel; nothing elsewhere.

    Training and prediction free and take the same megabytes again and again, and touching fresh pages
    costs more than using them: a third of a training step and of a replayed message, two of twelve
    milliseconds of a callback.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_TRIM_THRESHOLD, 1 << 30)
