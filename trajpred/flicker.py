"""How much predictions change from one message to the next: a path that jumps makes a planner brake."""

from __future__ import annotations

import numpy as np

from trajpred.config import NS_PER_S
from trajpred.timegrid import resample
from trajpred.types import Float, Ids, Int, Prediction

APART_MAX_S = 1.0
"""Predictions of the same agent farther apart in time are not consecutive."""


def flicker(before: Prediction, after: Prediction) -> Float:
    """(N,) m for the N agents of `after`: the mean distance of the single path from the one `before`.

    At the same moments: all of `after`'s that both reach. NaN for agents that `before` does not hold, and
    for all where the two are not consecutive or in different frames.
    """
    change = np.full(len(after), np.nan)
    apart_s = (after.stamp_ns - before.stamp_ns) / NS_PER_S
    shared_s = after.offset_s[after.offset_s + apart_s <= before.offset_s[-1] + 1e-9]
    if not 0.0 < apart_s <= APART_MAX_S or before.frame_id != after.frame_id or not len(shared_s):
        return change
    mine, theirs = _same(before.ids, after.ids)
    then = resample(before.take(theirs), shared_s + apart_s).single
    now = after.single[mine, : len(shared_s)]
    change[mine] = np.hypot(*np.moveaxis(now - then, -1, 0)).mean(axis=1)
    return change


def _same(before: Ids, after: Ids) -> tuple[Int, Int]:
    """Rows of `after` whose id is in `before`, and where there; of an id that is twice, the first."""
    names, first = np.unique(before, return_index=True)
    if not len(names):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at = np.minimum(np.searchsorted(names, after), len(names) - 1)
    mine = np.flatnonzero(names[at] == after)
    return mine, first[at[mine]]
