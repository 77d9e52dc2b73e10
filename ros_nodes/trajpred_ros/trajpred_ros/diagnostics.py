"""The health of the prediction node: collected from callback to callback, told once in a while.

`Health` reads no clock and knows no ROS: times are arguments, in ns of one steady clock.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from trajpred.types import Source

if TYPE_CHECKING:
    from trajpred.predictor import Counts

WINDOW_S = 5.0
"""Times and rates are those of the callbacks within so many seconds before the report ..."""
WINDOW_CALLBACKS = 2000
"""... and of no more than so many; no more are remembered for the next report either."""
REASONS_MAX = 16
"""Rejected frames are counted by so many different reasons, and the rest as one."""
OTHER_REASON = "for other reasons"
UNKNOWN = "-"
_TIMES = ("processing time", "decode", "step", "encode", "publish")

_NS_PER_MS, _NS_PER_S = 1_000_000, 1_000_000_000


class Level(IntEnum):
    """The levels of diagnostic_msgs/DiagnosticStatus; of several the highest counts."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


Fault = tuple[Level, str]
"""How bad something is, and what it is in words."""


class Stages(NamedTuple):
    """What the parts of one callback took."""

    decode_ms: float
    step_ms: float
    encode_ms: float
    publish_ms: float

    @property
    def total(self) -> float:
        """The whole callback, ms."""
        return sum(self)


@dataclass(frozen=True, slots=True)
class Report:
    """One status: how bad, why in words, and what was measured."""

    level: Level
    message: str
    values: dict[str, str]


class Health:
    """Collects what the callbacks meet; `report` judges what there was since the last report."""

    def __init__(self) -> None:
        self._inputs_ns: deque[int] = deque(maxlen=WINDOW_CALLBACKS)
        self._callbacks: deque[tuple[int, Stages]] = deque(maxlen=WINDOW_CALLBACKS)
        self._answered = 0
        self._objects = UNKNOWN
        self._age_s = math.nan
        self._rejected: Counter[str] = Counter()
        self._failures = 0  # of callbacks
        self._failed_calls = 0  # of the model that a report has told of
        self._in_time_ns: int | None = None  # the last callback in time; the first one before there is any
        self._sustained_ms: float | None = None  # for how long none was, by the last callback, if too long
        self._begin()

    def _begin(self) -> None:
        """Begin what the next report tells of."""
        self._new_callbacks = 0
        self._new_rejected = self._new_failures = 0
        self._last_reason = self._last_failure = ""

    def answered(self, now_ns: int, stage_ms: Stages, objects: int, age_s: float) -> None:
        """A frame of so many objects has just been answered; age_s: ROS time then minus its stamp."""
        self._inputs_ns.append(now_ns)
        self._callbacks.append((now_ns, stage_ms))
        self._answered += 1
        self._new_callbacks += 1
        self._objects, self._age_s = str(objects), age_s

    def rejected(self, now_ns: int, reason: str) -> None:
        """A frame could not be answered, for a reason in a few words."""
        self._inputs_ns.append(now_ns)
        known = reason in self._rejected or len(self._rejected) < REASONS_MAX
        self._rejected[reason if known else OTHER_REASON] += 1
        self._new_rejected += 1
        self._last_reason = reason

    def failed(self, why: str) -> None:
        """A callback could not do what it is for, and nobody knows why but the error."""
        self._failures += 1
        self._new_failures += 1
        self._last_failure = why

    def report(
        self,
        now_ns: int,
        counts: Counts,
        *,
        tracks: int,
        degraded: str,
        tolerance_ms: float,
        consecutive_tolerance_ms: float,
        timeout_s: float,
        about: Mapping[str, str],
    ) -> Report:
        """Judge what there was since the last report, and begin anew.

        STALE: no input yet, or none for timeout_s or longer; a rejected frame is input, too. ERROR: no
        callback has been in time for consecutive_tolerance_ms or longer, at a callback since the last
        report, or at the last one if there was none since. The time runs from callback to callback, the
        last in time or else the first one of all being its start; or one failed since the last report. WARN:
        since the last report a callback took longer than tolerance_ms (at the tolerance it is in time), a
        frame was rejected or a call of the model failed; or degraded, if not empty, says why the node is not
        as it should be. Both tolerances are as in Autoware's nodes.

        counts, tracks: of the predictor, and how many it remembers; about: what else is to be told.
        """
        faults = [
            *self._silent(now_ns, timeout_s),
            *self._slow(tolerance_ms, consecutive_tolerance_ms),
        ]
        if self._new_failures:
            words = f"{self._new_failures} callbacks failed, the last: {self._last_failure}"
            faults.append((Level.ERROR, words))
        if self._new_rejected:
            faults.append((Level.WARN, f"{self._new_rejected} rejected, the last: {self._last_reason}"))
        failed_calls = counts.failed_calls - self._failed_calls
        if failed_calls:
            words = f"{failed_calls} calls of the model failed, the last: {counts.last_failure}"
            faults.append((Level.WARN, words))
        self._failed_calls = counts.failed_calls
        if degraded:
            faults.append((Level.WARN, f"degraded: {degraded}"))
        values = {
            **self._times(now_ns),
            "objects in the last message": self._objects,
            "input age [ms]": UNKNOWN if math.isnan(self._age_s) else _short(self._age_s * 1e3),
            "input rate [Hz]": self._rate(now_ns),
            "messages answered": str(self._answered),
            "frames rejected": str(self._rejected.total()),
            **{f"frames rejected: {reason}": str(count) for reason, count in self._rejected.items()},
            "callbacks failed": str(self._failures),
            "resets": str(counts.resets),
            "late frames": str(counts.late_frames),
            "tracks begun anew after a leap": str(counts.leaps),
            "calls of the model failed": str(counts.failed_calls),
            **{
                f"answers by {source.name.lower()}": str(counts.answers[source])
                for source in Source
                if counts.answers[source]
            },
            "tracks remembered": str(tracks),
            **about,
        }
        self._begin()
        level = max((level for level, _ in faults), default=Level.OK)
        return Report(level, "; ".join(words for _, words in faults) or "predicting", values)

    def _silent(self, now_ns: int, timeout_s: float) -> list[Fault]:
        if not self._inputs_ns:
            return [(Level.STALE, "no input yet")]
        silence_ns = now_ns - self._inputs_ns[-1]
        if silence_ns < round(timeout_s * _NS_PER_S):
            return []
        return [(Level.STALE, f"no input for {_short(silence_ns / _NS_PER_S)} s")]

    def _slow(self, tolerance_ms: float, consecutive_tolerance_ms: float) -> list[Fault]:
        """Judge the callbacks since the last report, the worse fault first."""
        new = list(self._callbacks)[-self._new_callbacks :] if self._new_callbacks else []
        slow_ms, sustained_ms = [], [] if new else [self._sustained_ms]
        for when_ns, stages in new:
            slow = stages.total > tolerance_ms
            if not slow or self._in_time_ns is None:
                self._in_time_ns = when_ns
            excess_ns = when_ns - self._in_time_ns
            too_long = slow and excess_ns >= round(consecutive_tolerance_ms * _NS_PER_MS)
            self._sustained_ms = excess_ns / _NS_PER_MS if too_long else None
            sustained_ms.append(self._sustained_ms)
            if slow:
                slow_ms.append(stages.total)
        faults = []
        worst_ms = max((ms for ms in sustained_ms if ms is not None), default=None)
        if worst_ms is not None:
            words = f"every callback for {_short(worst_ms)} ms took longer than {tolerance_ms:g} ms"
            faults.append((Level.ERROR, words))
        if slow_ms:
            share = f"{len(slow_ms)} of {len(new)} callbacks"
            words = f"{share} took longer than {tolerance_ms:g} ms, at most {_short(max(slow_ms))} ms"
            faults.append((Level.WARN, words))
        return faults

    def _times(self, now_ns: int) -> dict[str, str]:
        """Mean, largest and 99th percentile (nearest rank) of the whole callback and of its stages."""
        recent = [stages for when, stages in self._callbacks if _recent(when, now_ns)]
        columns = np.array([(s.total, *s) for s in recent]).reshape(-1, 5).T
        told: dict[str, str] = {}
        for name, column in zip(_TIMES, columns, strict=True):
            measured = {"mean": UNKNOWN, "max": UNKNOWN, "p99": UNKNOWN}
            if recent:
                p99 = np.percentile(column, 99, method="inverted_cdf")
                measured = {"mean": _short(column.mean()), "max": _short(column.max()), "p99": _short(p99)}
            told |= {f"{name} {what} [ms]": value for what, value in measured.items()}
        return told

    def _rate(self, now_ns: int) -> str:
        recent = [when for when in self._inputs_ns if _recent(when, now_ns)]
        if len(recent) < 2 or recent[-1] == recent[0]:
            return UNKNOWN
        return _short((len(recent) - 1) * _NS_PER_S / (recent[-1] - recent[0]))


def diagnostic_array(report: Report, stamp: Any, name: str, hardware_id: str) -> DiagnosticArray:
    """The report as the message for /diagnostics; stamp: a builtin_interfaces/Time, name: of the status."""
    status = DiagnosticStatus(
        level=bytes([report.level]),
        name=name,
        message=report.message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in report.values.items()],
    )
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array


def _recent(when_ns: int, now_ns: int) -> bool:
    return now_ns - when_ns <= WINDOW_S * _NS_PER_S


def _short(value: float) -> str:
    """Two decimals are enough for everything here, and none from 100 on."""
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
