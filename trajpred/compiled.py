"""Loops over agents that run at machine speed.

What is done to each agent by itself is written as a plain loop and compiled by numba at its first call; the
machine code is kept beside the source (or in NUMBA_CACHE_DIR) for the next process. As array expressions
the same work takes dozens of passes over a few hundred numbers, and nearly all of the time goes into starting
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """The function as machine code; it works on arrays and numbers, and division by zero gives inf or NaN."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
