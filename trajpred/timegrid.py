"""Paths at other times than those they were predicted for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trajpred.compiled import compiled
from trajpred.types import Float, Int, Prediction


@compiled
def between(known_s: Float, wanted_s: Float) -> tuple[Int, Float]:
    """Which of the known times (T,) s, ascending, T > 1, wanted ones (T2,) s lie between.

    The number (T2,) of the known one before, and the share (T2,) of the way from that one to the next;
    beyond the last time it is above 1, so that what changes goes on as it did.
    """
    before, share = np.empty(len(wanted_s), np.int64), np.empty(len(wanted_s))
    for i in range(len(wanted_s)):
        at = 0
        while at < len(known_s) - 2 and known_s[at + 1] < wanted_s[i]:
            at += 1
        before[i], share[i] = at, (wanted_s[i] - known_s[at]) / (known_s[at + 1] - known_s[at])
    return before, share


def resample(prediction: Prediction, offset_s: Float) -> Prediction:
    """The same paths at other times (T2,) s, linear between the model's own; the current pose is time 0.

    Beyond the last time a path goes on at its last velocity, and its spread grows at its last rate.
    """
    if np.array_equal(offset_s, prediction.offset_s):
        return prediction
    before, share = between(np.append(0.0, prediction.offset_s), offset_s)

    def taken(start: Float, values: Float) -> Float:
        """(N, K, 1, ...) and (N, K, T, ...) -> (N, K, T2, ...)."""
        whole = np.concatenate([start, values], axis=2)
        low, high = whole[:, :, before], whole[:, :, before + 1]
        found: Float = low + (high - low) * share.reshape(-1, *[1] * (whole.ndim - 3))
        return found

    start = np.broadcast_to(prediction.xy[:, None, None], (*prediction.paths.shape[:2], 1, 2))
    certain = np.zeros((*prediction.spread.shape[:2], 1))
    return replace(
        prediction,
        offset_s=offset_s,
        paths=taken(start, prediction.paths),
        single=taken(start[:, :1], prediction.single[:, None])[:, 0],
        spread=taken(certain, prediction.spread),
    )
