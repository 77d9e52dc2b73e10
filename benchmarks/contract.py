"""What is promised of every answer, and what the diagnostics must have counted, whatever came in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from trajpred.cdr import TrackedObjects, read_predicted
from trajpred.config import NS_PER_S, PredictorConfig
from trajpred.messages import MAX_PATHS, MAX_POSES, frame_of
from trajpred.predictor import BELIEVED_AFTER, POSITION_MAX_M
from trajpred.types import Label

FAILED_CALLS = "calls of the model failed"
BY, UNTRAINED = "answers by ", "answers by untrained_class"
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

    trained: the names of the classes that its model answers; none where it was asked for a baseline.
    counts: by the names that the diagnostics have, and `answered_by`.
    """

    def __init__(self, trained: Collection[str] = ()) -> None:
        self.counts: Counter[str] = Counter({FAILED_CALLS: 0})
        self.answered_by = f"{BY}model or untrained_class" if trained else f"{BY}baseline"
        self._trained = {Label[name] for name in trained}
        self._in_doubt: dict[bytes, tuple[int, ...]] = {}
        self._untrained_at_most = 0
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
        followed = np.flatnonzero(usable & ~again)
        repeated = objects.stamp_ns == self._newest_ns
        if self._move_time(objects.stamp_ns, objects.frame_id):
            self.counts["answers by out_of_order"] += len(followed)
            return
        self.counts[self.answered_by] += len(followed)
        if self._trained:
            seen = zip(
                objects.ids[followed].tolist(), frame_of(objects).label[followed].tolist(), strict=True
            )
            self._untrained_at_most += sum(self._doubtful(*one, repeated) for one in seen)

    def against(self, diagnostics: Mapping[str, str]) -> dict[str, tuple[int, int]]:
        """By name, what was counted, and what was sent: at most so many, for those of an untrained class."""
        found = {name: int(n) for name, n in diagnostics.items() if name in self.counts or BY in name}
        untrained = found.pop(UNTRAINED, 0)
        if self._trained:
            found[self.answered_by] = found.pop(BY + "model", 0) + untrained
        pairs = {name: (found.get(name, 0), self.counts[name]) for name in {**self.counts, **found}}
        return {**pairs, UNTRAINED: (untrained, self._untrained_at_most)}

    def wrong(self, diagnostics: Mapping[str, str]) -> dict[str, tuple[int, int]]:
        """What was counted otherwise than sent, who answered that should not have included."""
        return {
            name: (counted, sent)
            for name, (counted, sent) in self.against(diagnostics).items()
            if counted > sent or (counted < sent and name != UNTRAINED)
        }

    def _doubtful(self, number: bytes, label: int, repeated: bool) -> bool:
        """Whether it may be taken for a class that the model does not know.

        It may once it was seen as one, until it is seen as another often enough, one after the other; a
        repeated stamp is no other sight of it.
        """
        if label not in self._trained:
            self._in_doubt[number] = ()
        elif number in self._in_doubt and not repeated:
            seen = (*self._in_doubt.pop(number), label)[-BELIEVED_AFTER:]
            if len(seen) < BELIEVED_AFTER or len(set(seen)) > 1:
                self._in_doubt[number] = seen
        return number in self._in_doubt

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


def growth(messages: Sequence[float], memory: Sequence[float]) -> float:
    """Bytes with every message: the slope of the straight line that is nearest to all the (N,) pairs."""
    return float(np.polyfit(messages, memory, 1)[0])
