"""Answers that a log holds, whoever published them, in the place of a predictor: to score them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajpred.bags import read_raw
from trajpred.cdr import PREDICTED
from trajpred.errors import InputError
from trajpred.messages import check_grid, decode_predicted
from trajpred.predictor import Counts
from trajpred.timegrid import resample
from trajpred.types import Bool, Float, Ids, Prediction, TrackFrame, bytes_from_ids


def is_log(path: Path) -> bool:
    """Whether a path names a rosbag2 log, by its ending or its metadata."""
    return path.suffix in (".mcap", ".db3") or (path / "metadata.yaml").is_file()


class Recorded:
    """The predictor that says what the PredictedObjects of a log say, whoever published them.

    A frame is answered by the message with its stamp. All answers are on one time grid, offset_s: the
    finest step in the log, up to the shortest horizon in it; nothing is said of their spread (see
    messages.decode_predicted). Raises InputError for what is no log, or holds no such answers.
    """

    def __init__(self, path: Path, topic: str | None = None) -> None:
        self.path = path
        self.counts = Counts()
        self._topic = topic
        self.offset_s = self._common_grid()
        self.reset()

    def reset(self) -> None:
        """Begin at the start of the log again."""
        self._messages = self._read()
        self._ahead: dict[int, list[Prediction]] = {}  # by stamp, what was read and not asked for yet

    def observe(self, frame: TrackFrame) -> None:
        """Nothing to remember: the answers are there already."""

    def step(self, frame: TrackFrame) -> Prediction:
        """The answers to the objects of a frame, in its order; frames come in the order of their stamps.

        Raises InputError for an object without an answer, and for answers in another coordinate frame.
        """
        self._ahead = {stamp: parts for stamp, parts in self._ahead.items() if stamp >= frame.stamp_ns}
        parts = self._ahead.setdefault(frame.stamp_ns, [])
        while (missing := _missing(frame.ids, parts)).any() or not parts:
            message = next(self._messages, None)
            if message is None:
                who = _who(frame, missing)
                raise InputError(
                    f"{self.path}: no answer to {who} at {frame.stamp_ns} ns; is it of another log?"
                )
            self._ahead.setdefault(message.stamp_ns, []).append(message)
        answers = _joined([resample(part, self.offset_s) for part in parts])
        if answers.frame_id != frame.frame_id:
            raise InputError(
                f"{self.path}: at {frame.stamp_ns} ns the objects are in the frame {frame.frame_id!r}, "
                f"their answers in {answers.frame_id!r}"
            )
        order = np.argsort(answers.ids, kind="stable")
        answers = answers.take(order[np.searchsorted(answers.ids[order], frame.ids)])
        self.counts.frames += 1
        self.counts.add(answers.source)
        return answers

    def _read(self) -> Iterator[Prediction]:
        for number, (_, _, raw) in enumerate(read_raw(self.path, self._topic, PREDICTED)):
            try:
                prediction, _ = decode_predicted(raw)
            except InputError as error:
                raise InputError(f"{self.path}: message {number}: {error}") from None
            yield prediction

    def _common_grid(self) -> Float:
        spans, shape = [], (0, 0)
        for prediction in self._read():
            if len(prediction):
                spans.append((prediction.offset_s[0], prediction.offset_s[-1]))
                shape = max(shape, prediction.mode_valid.shape, key=math.prod)
        if not spans:
            raise InputError(f"{self.path}: no object is predicted in any message of {PREDICTED}")
        step_s, horizon_s = np.min(spans, axis=0)
        steps: Float = step_s * np.arange(1, math.floor(horizon_s / step_s + 1e-6) + 1)
        try:
            check_grid(*shape, len(steps))
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None
        return steps


def _missing(ids: Ids, parts: list[Prediction]) -> Bool:
    """(N,) whether none of the parts has the id."""
    return ~np.isin(ids, np.concatenate([part.ids for part in parts])) if parts else np.ones(len(ids), bool)


def _who(frame: TrackFrame, missing: Bool) -> str:
    """The first of those, in words."""
    if not missing.any():
        return "a frame without objects"
    uuid = bytes_from_ids(frame.ids[missing][:1]).tobytes().hex()
    others = int(missing.sum()) - 1
    return f"object {uuid}" + (f" (and {others} more)" if others else "")


def _joined(parts: list[Prediction]) -> Prediction:
    """Several predictions of one stamp and grid as one; what has fewer modes gets some that are not valid."""
    modes = max(part.paths.shape[1] for part in parts)

    def rows(name: str) -> NDArray[Any]:
        columns = [getattr(part, name) for part in parts]
        if name in ("paths", "probability", "mode_valid", "spread"):
            columns = [
                np.pad(column, [(0, 0), (0, modes - column.shape[1]), *[(0, 0)] * (column.ndim - 2)])
                for column in columns
            ]
        return np.concatenate(columns)

    shared = ("stamp_ns", "frame_id", "offset_s")
    columns: dict[str, Any] = {f.name: rows(f.name) for f in fields(Prediction) if f.name not in shared}
    return replace(parts[0], **columns)
