"""What is promised of every answer, and what the diagnostics must have counted, whatever came in."""

from __future__ import annotations

from collections import Counter

import numpy as np

from trajpred.cdr import TrackedObjects, read_predicted
from trajpred.config import NS_PER_S, PredictorConfig
from trajpred.messages import MAX_PATHS, MAX_POSES
from trajpred.predictor import POSITION_MAX_M

_REORDER_NS = round(PredictorConfig().reorder_tolerance_s * NS_PER_S)


def broken(question: TrackedObjects, raw: bytes) -> str:
    """The first promise that an answer breaks, in words; empty if it keeps all of them.

    raw: a serialized PredictedObjects. Raises InputError for other bytes.
    """
    answer = read_predicted(raw)
    if (answer.stamp_ns, answer.frame_id) != (question.stamp_ns, question.frame_id):
        return "another stamp or frame"
    if answer.ids.tobytes() != question.ids.tobytes():
        return "other objects"
    for name in ("existence", "class_label", "class_probability", "state", "shape_type", "dimensions"):
        if getattr(answer, name).tobytes() != getattr(question, name).tobytes():
            return f"{name} not copied through"
    if not len(answer):
        return ""
    paths, poses = np.diff(answer.path_start), np.diff(answer.pose_start)
    if paths.min() < 1 or paths.max() > MAX_PATHS:
        return "objects without a path, or with too many"
    if poses.min() < 2 or poses.max() > MAX_POSES:
        return "paths without a future, or too long"
    if not np.isfinite(answer.poses).all():
        return "poses that are not finite"
    sure = np.add.reduceat(answer.confidence.astype(np.float64), answer.path_start[:-1])
    return "" if np.allclose(sure, 1.0, atol=1e-5) else "confidences that do not sum to 1"


class Ledger:
    """What the diagnostics of a node must say of the messages that it took, by the words of the contract.

    counts: by the names that the diagnostics have.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._newest_ns: int | None = None
        self._frame_id: str | None = None

    def took(self, objects: TrackedObjects | None) -> None:
        """It took this message; None: bytes that are none."""
        if objects is None:
            self.counts["frames rejected"] += 1
            return
        self.counts["messages answered"] += 1
        usable = (np.abs(objects.state[:, :2]) <= POSITION_MAX_M).all(axis=1)
        again = np.ones(len(objects), bool)
        again[np.unique(objects.ids, return_index=True)[1]] = False
        self.counts["answers by invalid_state"] += int((~usable).sum())
        self.counts["answers by duplicate_id"] += int((usable & again).sum())
        if self._move_time(objects.stamp_ns, objects.frame_id):
            self.counts["answers by out_of_order"] += int((usable & ~again).sum())

    def _move_time(self, stamp_ns: int, frame_id: str) -> bool:
        """Whether the message is late."""
        if self._frame_id not in (None, frame_id):
            self._newest_ns = None
            self.counts["resets"] += 1
        self._frame_id = frame_id
        back_ns = 0 if self._newest_ns is None else self._newest_ns - stamp_ns
        late = 0 < back_ns <= _REORDER_NS
        self.counts["late frames"] += late
        self.counts["resets"] += back_ns > _REORDER_NS
        if not late:
            self._newest_ns = stamp_ns
        return late
