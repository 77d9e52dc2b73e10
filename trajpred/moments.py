"""A recording tick by tick: what was seen, what was predicted, what then came. For all that is watched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajpred.bags import DAMAGE, check_log, damaged, read_raw
from trajpred.bounded import LogReader
from trajpred.cdr import PREDICTED, TRACKED, read_predicted
from trajpred.config import DEFAULT_MODEL, NS_PER_S
from trajpred.errors import InputError
from trajpred.evaluate import Answers, Later
from trajpred.recorded import Recorded, is_log
from trajpred.types import Bool, Float, Ids, Int, Prediction, Scene, TrackFrame
from trajpred.windows import DataSource

HISTORY_S: Float = np.linspace(-3.0, 0.0, 16)
"""What is shown of the past of an agent, s; the last is now."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One tick with N agents: positions in m in the frame of the recording.

    frame: what was seen; heading (N,) rad; offset_s (T,) s; paths (N, K, T, 2), probability (N, K) and
    mode_valid (N, K) as in Prediction, but an agent that nobody answered has no valid mode; history
    (N, H, 2) at HISTORY_S and truth (N, T, 2) at offset_s, with history_known (N, H) and truth_known
    (N, T); step_ms: how long the prediction took, None where it was recorded.
    """

    frame: TrackFrame
    heading: Float
    offset_s: Float
    paths: Float
    probability: Float
    mode_valid: Bool
    history: Float
    history_known: Bool
    truth: Float
    truth_known: Bool
    step_ms: float | None

    def past(self, row: int) -> Float:
        """(h, 2) m, h >= 1: where an agent was, without gaps, up to now."""
        unknown = np.flatnonzero(~self.history_known[row])
        return self.history[row, unknown[-1] + 1 if unknown.size else 0 :]

    def future(self, row: int) -> Float:
        """(1 + s, 2) m: where an agent is and came to, until it is not known for the first time."""
        known = self.truth_known[row].cumprod().sum()
        return np.concatenate([self.frame.xy[row : row + 1], self.truth[row, :known]])

    def ways(self, row: int) -> tuple[Float, Float]:
        """(k, 1 + T, 2) m, k >= 0: the paths of an agent from where it is, and their probability (k,).

        In rising probability, so that what is drawn last is the first of the most probable.
        """
        valid = np.flatnonzero(self.mode_valid[row])
        order = valid[np.argsort(-self.probability[row, valid], kind="stable")[::-1]]
        now = np.broadcast_to(self.frame.xy[row], (len(order), 1, 2))
        return np.concatenate([now, self.paths[row, order]], axis=1), self.probability[row, order]


def moments(predictor: Answers, scene: Scene, ticks: Int) -> Iterator[Moment]:
    """The scene from its start; the moments at some of its distinct stamps, by their ascending numbers.

    Recorded answers may lack agents and ticks. Raises InputError if they answer no tick at all.
    """
    wanted = set(ticks.tolist())
    later, asked = Later.of(scene), _Asked(predictor, scene)
    for tick, frame in enumerate(islice(scene.frames(), max(wanted, default=-1) + 1)):
        if tick in wanted:
            yield _moment(frame, later, asked)
        else:
            predictor.observe(frame)


def ticks_between(scene: Scene, from_s: float = 0.0, to_s: float | None = None) -> Int:
    """(M,) which of the distinct stamps are from_s to to_s after the first; to_s None: to the end.

    Raises InputError if there are none.
    """
    stamps = np.unique(scene.stamp_ns)
    since_s = (stamps - stamps[0]) / NS_PER_S
    ticks = np.flatnonzero((since_s >= from_s) & (since_s <= (np.inf if to_s is None else to_s)))
    if not ticks.size:
        until = "the end" if to_s is None else f"{to_s:g} s"
        raise InputError(f"{scene.name}: nothing from {from_s:g} s to {until}: it lasts {since_s[-1]:.1f} s")
    return ticks


def choose_scene(source: DataSource, name: str | None = None) -> Scene:
    """The recording of this name, None for the first. Raises InputError, with names, if there is none."""
    for scene in source.scenes:
        if name in (None, scene.name):
            return scene
    raise InputError(f"{source.name}: no recording {name!r} in it; there is {source.listed}")


def default_model(log: Path) -> str:
    """Whose predictions are shown where nobody is named: those in the log, or of the model in the box.

    Raises InputError for what has the name of a log and is none, or holds nothing but answers.
    """
    if not is_log(log) or not holds(log, PREDICTED):
        return DEFAULT_MODEL
    if not holds(log, TRACKED):
        raise InputError(
            f"{log}: holds predictions, but not the TrackedObjects that they answer; "
            f"name the log of those, and this one with --model {log}"
        )
    return str(log)


def holds(log: Path, msgtype: str) -> bool:
    """Whether a log has a topic of a type; raises InputError for what is no log, or is damaged."""
    check_log(log)
    try:
        with LogReader(log) as reader:
            return any(connection.msgtype == msgtype for connection in reader.connections)
    except DAMAGE as error:
        raise damaged(log, "", error) from error


class _Asked:
    """A predictor, or the answers in a log where it has some."""

    def __init__(self, predictor: Answers, scene: Scene) -> None:
        self.predictor = predictor
        self.answered: dict[int, list[Ids]] | None = None
        predictor.reset()
        if isinstance(predictor, Recorded):
            self.answered = _answered(predictor.path)
            if not np.isin(scene.stamp_ns, list(self.answered)).any():
                raise InputError(f"{predictor.path}: answers no tick of {scene.name}; is it of another log?")
        else:
            # what is compiled or allocated at the first step is not the latency of any tick
            predictor.step(next(scene.frames()))
            predictor.reset()

    def step(self, frame: TrackFrame) -> tuple[Prediction | None, Int, float | None]:
        """The prediction for some rows (M,) of the frame, None for none; how long it took, ms."""
        rows = np.arange(len(frame))
        if self.answered is None:
            start_ns = time.perf_counter_ns()
            prediction = self.predictor.step(frame)
            return prediction, rows, (time.perf_counter_ns() - start_ns) / 1e6
        rows = rows[np.isin(frame.ids, np.concatenate(self.answered.get(frame.stamp_ns, [frame.ids[:0]])))]
        return (self.predictor.step(_take(frame, rows)) if rows.size else None), rows, None


def _answered(log: Path) -> dict[int, list[Ids]]:
    """Who is answered at which stamp."""
    found: dict[int, list[Ids]] = {}
    for _, _, raw in read_raw(log, None, PREDICTED):
        message = read_predicted(raw)
        found.setdefault(message.stamp_ns, []).append(message.ids)
    return found


def _take(frame: TrackFrame, rows: Int) -> TrackFrame:
    shared = ("stamp_ns", "frame_id")
    kept: dict[str, Any] = {
        f.name: getattr(frame, f.name)[rows] for f in fields(frame) if f.name not in shared
    }
    return replace(frame, **kept)


def _moment(frame: TrackFrame, later: Later, asked: _Asked) -> Moment:
    prediction, rows, step_ms = asked.step(frame)
    n, offset_s = len(frame), np.asarray(asked.predictor.offset_s)
    track = later.number(frame.ids)
    history, history_known = later.positions(track, frame.stamp_ns, HISTORY_S)
    truth, truth_known = later.positions(track, frame.stamp_ns, offset_s)

    def whole(values: NDArray[Any]) -> NDArray[Any]:
        """The rows of the prediction in their places, zeros elsewhere."""
        table = np.zeros((n, *values.shape[1:]), values.dtype)
        table[rows] = values
        return table

    heading = np.where(frame.yaw_valid, frame.yaw, 0.0)
    if prediction is not None:
        heading[rows] = prediction.heading
    nobody = np.zeros((0, 1))
    return Moment(
        frame=frame,
        heading=heading,
        offset_s=offset_s,
        paths=whole(np.zeros((0, 1, len(offset_s), 2)) if prediction is None else prediction.paths),
        probability=whole(nobody if prediction is None else prediction.probability),
        mode_valid=whole(nobody > 0 if prediction is None else prediction.mode_valid),
        history=history,
        history_known=history_known,
        truth=truth,
        truth_known=truth_known,
        step_ms=step_ms,
    )
