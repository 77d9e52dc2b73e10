"""The streaming predictor: `Predictor.step(frame) -> Prediction` is the only online path.

Offline evaluation, log replay and the live node are loops over it. It reads no clock: now is the
frame's stamp.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trajpred.baselines import Kalman, constant_turn, constant_velocity, grown_spread
from trajpred.compiled import compiled
from trajpred.config import NS_PER_S, PredictorConfig
from trajpred.device import Resident
from trajpred.features import MOTION, SPEED_MAX_MPS, Motion, Observation, advance, neighbours
from trajpred.runtime import CallError, Forecast, OnnxModel
from trajpred.tracks import ColumnSpec, Tick, TrackStore
from trajpred.types import Bool, Float, Float32, Ids, Int, Label, Prediction, Source, TrackFrame

POSITION_MAX_M = 1e7
"""A quarter round the earth: a coordinate beyond it is garbage, whatever the map's origin."""
CLOSING_S = 3.0
"""Who comes nearer is as urgent as somebody who is there already where it will be after so long."""
STANDS_M, MOVES_M = 0.1, 0.2
"""From its first step on, a path of the model that comes no farther than the first of these stands there, one
that comes as far as the second is taken as it is, and one in between is shortened: who stands does not creep.
The first step stays: it tells where an agent is, noise of the tracker left out."""
RESTING_STANDS_M, RESTING_MOVES_M = 0.6, 1.2
"""The same for the most probable path of who rests (features.RESTS_M): a tracker's noise makes it creep."""
LEAP_M = 3.0
FASTEST_MPS = np.full(len(Label), 70.0)
FASTEST_MPS[[Label.PEDESTRIAN, Label.BICYCLE]] = 12.0, 25.0
"""Who comes LEAP_M farther than its class can in the time did not go that way: its motion begins anew."""
BELIEVED_AFTER = 3
"""Another class than before is believed when a track has it in so many observations, one after the other."""
STATE = "state of the model: "
"""Sets the model's own columns of the store apart from ours, whatever the model calls them."""


class Ego(NamedTuple):
    """Where the vehicle is that the predictions are for: (2,) m and (2,) m/s, in the frame of the objects."""

    xy: Float
    velocity: Float


CLASSES, UNKNOWN = np.uint8(len(Label)), np.uint8(Label.UNKNOWN)
CLASS = np.dtype([("believed", np.uint8), ("other", np.uint8), ("times", np.uint8)])
"""Of a track: what it is taken for, the other class that was seen last, how often one after the other."""


@dataclass(slots=True)
class Counts:
    """What the predictor has been through since it was made."""

    frames: int = 0
    resets: int = 0
    late_frames: int = 0
    leaps: int = 0  # of tracks, see LEAP_M
    failed_calls: int = 0  # of the model
    last_failure: str = ""
    answers: Counter[Source] = field(default_factory=Counter)

    def add(self, source: NDArray[np.uint8]) -> None:
        """Count the answers of one prediction, by who made them."""
        for value, share in enumerate(np.bincount(source).tolist()):
            if share:
                self.answers[Source(value)] += share


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    """A frame of N objects after it was taken in."""

    source: NDArray[np.uint8]  # (N,)
    motion: Motion  # (N,) what is known of each object now
    tracked: Int  # (R,) the rows that have a track
    kalman: Kalman | None  # (R,) if that is the configured baseline
    decoded: Int  # (M,) the rows that the model answered
    forecast: Forecast | None  # (M,)


class _Answer(NamedTuple):
    """The arrays of a Prediction that say where N agents go, see there."""

    paths: Float
    probability: Float
    mode_valid: Bool
    spread: Float
    single: Float


class Predictor:
    """Predicts every agent of every frame, remembering each track from frame to frame.

    With a model, agents that it cannot answer get the configured baseline; without one, all do, for the
    reason `without_model`: a baseline was asked for, or there is no usable model. On a GPU the model's state
    stays there (device.py); raises ArtefactError where that cannot be.
    """

    def __init__(
        self,
        model: OnnxModel | None,
        config: PredictorConfig | None = None,
        *,
        without_model: Source = Source.BASELINE,
    ) -> None:
        self._without_model = without_model
        self.config = config or PredictorConfig()
        self.model = model
        self.counts = Counts()
        if model is not None:
            self.offset_s = np.array(model.info.offset_s)
        else:
            self.offset_s = self.config.baseline_step_s * np.arange(1, self.config.baseline_steps + 1)
        self._modes = model.info.modes if model is not None else 1
        self._trained = np.zeros(256, bool)  # by label
        if model is not None:
            self._trained[[Label[name] for name in model.info.trained_classes]] = True
        self._resident = None  # the state of the tracks, where it is not in the store
        if isinstance(model, OnnxModel) and model.resident:
            self._resident = Resident(model, self.config.max_tracks)
        self._state = self._state_columns()
        self._frame_id: str | None = None
        self._distinct: bytes | None = None  # the ids of a frame, lately, in which none was twice
        self._store = TrackStore(
            self._columns(),
            max_age_ns=round(self.config.max_age_s * NS_PER_S),
            max_tracks=self.config.max_tracks,
            reorder_ns=round(self.config.reorder_tolerance_s * NS_PER_S),
        )

    def _columns(self) -> ColumnSpec:
        columns: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            "motion": ((), MOTION),
            "class": ((), CLASS),
        }
        if self.config.baseline == "kalman":
            columns["kalman_mean"] = ((4,), np.dtype(np.float64))
            columns["kalman_cov"] = ((3,), np.dtype(np.float64))
        return columns | {STATE + name: column for name, column in self._state.items()}

    def _state_columns(self) -> ColumnSpec:
        """What the store keeps of the model's state."""
        if self._resident is not None:
            return self._resident.columns
        state = self.model.info.state if self.model is not None else {}
        return {name: (shape, np.dtype(np.float32)) for name, shape in state.items()}

    def __len__(self) -> int:
        """Number of tracks remembered."""
        return len(self._store)

    def reset(self) -> None:
        """Forget every track and the time."""
        self._store.clear()
        self._frame_id = None

    def step(self, frame: TrackFrame, at_most: int | None = None, ego: Ego | None = None) -> Prediction:
        """Take in one perception tick and predict every object in it, in its order.

        at_most: so many are answered by the model, those first that ego may soon meet; the others get the
        baseline (Source.OVER_BUDGET). None: all that the model can answer.
        """
        taken = self._take_in(frame, at_most, ego)
        taken.source[taken.source == Source.BASELINE] = self._without_model
        self.counts.add(taken.source)
        return self._answer(frame, taken)

    def observe(self, frame: TrackFrame) -> None:
        """Take in one perception tick without predicting: the same memory as after `step`."""
        self._take_in(frame, at_most=0, ego=None)

    def _take_in(self, frame: TrackFrame, at_most: int | None, ego: Ego | None) -> _Taken:
        """Update the memory, and let the model decode at most so many of the agents that it can answer."""
        self.counts.frames += 1
        nothing = np.zeros(0, np.int64)
        source = np.full(len(frame), Source.BASELINE if self.model is None else Source.MODEL, np.uint8)
        raw = frame.ids.tobytes()
        if raw != self._distinct:
            again = _duplicated(frame.ids)
            source[again] = Source.DUPLICATE_ID
            self._distinct = None if again.any() else raw
        source[~_usable(np.ascontiguousarray(frame.xy))] = Source.INVALID_STATE
        tracked = np.flatnonzero(source <= Source.BASELINE)
        if self._move_time(frame) is Tick.LATE:
            source[tracked] = Source.OUT_OF_ORDER
            return _Taken(source, self._untracked(frame), nothing, None, nothing, None)

        slots = self._store.admit(frame.ids[tracked])
        if slots.min(initial=0) < 0:
            source[tracked[slots < 0]] = Source.OVER_CAPACITY
            tracked, slots = tracked[slots >= 0], slots[slots >= 0]
        before = self._store.load(slots, frame.stamp_ns)
        earlier, seen = Motion(before["motion"]), _observation(frame, tracked)
        classes = _believed(before["class"], frame.label[tracked], new=earlier.count == 0)
        leapt = _leaps(earlier.rows, before["class"], seen.xy, frame.stamp_ns)
        if leapt.any():
            self._forget(before, leapt)
        motion, steps = advance(earlier, seen)
        after: dict[str, NDArray[Any]] = {"motion": motion.rows, "class": classes}
        kalman = None
        if self.config.baseline == "kalman":
            kalman = Kalman(before["kalman_mean"], before["kalman_cov"]).advance(earlier, seen)
            after |= {"kalman_mean": kalman.mean, "kalman_cov": kalman.cov}

        forecast, select = None, nothing
        if self.model is not None:
            info = self.model.info
            grown = motion.count >= info.min_observations
            label = classes["believed"]
            trained = self._trained[label]
            answerable = grown & trained
            if not answerable.all():
                source[tracked[~grown]] = Source.TOO_NEW
                source[tracked[~trained]] = Source.UNTRAINED_CLASS
            select = answerable.nonzero()[0]
            if at_most is not None and at_most < len(select):
                urgent = _most_urgent(motion, select, at_most, ego)
                source[tracked[np.setdiff1d(select, urgent)]] = Source.OVER_BUDGET
                select = urgent
            state = {name: before[STATE + name] for name in self._state}
            group = frame.group[tracked]
            near = neighbours(motion, group, select, info.neighbours, info.neighbour_radius_m)
            place = self._place(frame.frame_id, motion, label, select)
            try:
                if self._resident is not None:
                    forecast, state = self._resident.run(
                        steps, label, motion.speed, state, slots, select, near, place
                    )
                else:
                    seen_now = np.ones((len(tracked), 1), bool)
                    forecast, state = self.model.run(
                        steps[:, None], seen_now, label, motion.speed, state, select, near, place
                    )
            except CallError as error:  # the state goes on as if this tick had been missed
                self.counts.failed_calls += 1
                self.counts.last_failure = str(error)
                source[tracked[select]] = Source.MODEL_FAULT
                select = nothing
            else:
                sound = forecast.is_finite()
                if not sound.all():
                    source[tracked[select[~sound]]] = Source.MODEL_FAULT
                    for part in state.values():
                        part[select[~sound]] = 0.0  # as if never seen, so that one fault does not last
                    select, forecast = select[sound], Forecast(*(part[sound] for part in forecast))
            after |= {STATE + name: part for name, part in state.items()}
        self._store.save(slots, frame.stamp_ns, after)
        if len(tracked) < len(frame):
            whole = self._untracked(frame)
            whole.rows[tracked] = motion.rows
            motion = whole
        return _Taken(source, motion, tracked, kalman, tracked[select], forecast)

    def _place(self, frame_id: str, motion: Motion, label: NDArray[np.uint8], select: Int) -> Float32 | None:
        """Where the selected are in the place that the model knows; None if this frame is not of it."""
        place = self.model.info.place if self.model is not None and self.config.place else None
        if place is None or place.frame_id != frame_id:
            return None
        return place.whereabouts(motion.xy[select], motion.heading[select], label[select])

    def _forget(self, before: Mapping[str, NDArray[Any]], leapt: Bool) -> None:
        """What was remembered of these, but for their class."""
        self.counts.leaps += int(leapt.sum())
        for name, part in before.items():
            if self._resident is not None and name.startswith(STATE):
                part[leapt] = self._resident.anew(part[leapt])
            elif name != "class":
                part[leapt] = np.zeros((), part.dtype)

    def _move_time(self, frame: TrackFrame) -> Tick:
        """Move time to the frame's stamp. Tracks in another coordinate frame are of no use: forget them."""
        if self._frame_id is not None and frame.frame_id != self._frame_id:
            self._store.clear()
            self.counts.resets += 1
        self._frame_id = frame.frame_id
        tick = self._store.tick(frame.stamp_ns)
        self.counts.resets += tick is Tick.RESET
        self.counts.late_frames += tick is Tick.LATE
        return tick

    def _untracked(self, frame: TrackFrame) -> Motion:
        """(N,) what is known of objects that this frame does not update.

        Those of a track go on with its velocity and heading; without a usable position, from where it was.
        """
        rows = np.arange(len(frame))
        usable = _usable(np.ascontiguousarray(frame.xy))
        seen = _observation(frame, rows)._replace(xy=np.where(usable[:, None], frame.xy, 0.0))
        motion, _ = advance(Motion.empty(len(frame)), seen)
        slots = self._store.find(frame.ids)
        known = np.flatnonzero(slots >= 0)
        if known.size:
            last = self._store.load(slots[known], frame.stamp_ns)["motion"]
            last["xy"] = np.where(usable[known, None], frame.xy[known], last["xy"])
            motion.rows[known] = last
        return motion

    def _answer(self, frame: TrackFrame, taken: _Taken) -> Prediction:
        """The model's paths for those that it decoded, baselines for the rest, in the map frame."""
        motion, rows = taken.motion, taken.decoded
        if taken.forecast is not None and len(rows) == len(frame):
            answer = _in_map(taken.forecast, motion.rows)
        else:
            answer = self._baseline(taken)
            if taken.forecast is not None:
                told = _in_map(taken.forecast, motion.rows[rows])
                for ours, theirs in zip(answer, told, strict=True):
                    ours[rows] = theirs
        return Prediction(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            ids=frame.ids,
            offset_s=self.offset_s,
            xy=motion.xy,
            heading=motion.facing,
            velocity=motion.velocity,
            paths=answer.paths,
            probability=answer.probability,
            mode_valid=answer.mode_valid,
            spread=answer.spread,
            single=answer.single,
            source=taken.source,
        )

    def _baseline(self, taken: _Taken) -> _Answer:
        """One path for each of N objects."""
        motion, n = taken.motion, len(taken.source)
        paths = np.zeros((n, self._modes, len(self.offset_s), 2))
        spread = np.ones(paths.shape[:3])
        probability = np.zeros((n, self._modes))
        probability[:, 0] = 1.0
        turning = self.config.baseline == "ctrv"
        paths[:, 0] = (constant_turn if turning else constant_velocity)(motion, self.offset_s)
        spread[:, 0] = grown_spread(self.offset_s, n)
        if taken.kalman is not None:
            paths[taken.tracked, 0], spread[taken.tracked, 0] = taken.kalman.forecast(self.offset_s)
        return _Answer(paths, probability, probability > 0, spread, paths[:, 0].copy())


def _most_urgent(motion: Motion, rows: Int, count: int, ego: Ego | None) -> Int:
    """So many of the rows, in their order: the nearest to ego and those that come nearer fastest.

    Where ego is not known, it is taken to stand in the middle of all, where a vehicle's sensors are.
    """
    if not count:
        return rows[:0]
    here, moves = ego or Ego(np.median(motion.xy[rows], axis=0), np.zeros(2))
    apart = motion.xy[rows] - here
    distance = np.hypot(*apart.T)
    closing = -((motion.velocity[rows] - moves) * apart).sum(axis=1) / np.maximum(distance, 1.0)
    soon = distance - CLOSING_S * np.maximum(closing, 0.0)
    return np.sort(rows[np.argpartition(soon, count - 1)[:count]])


def _in_map(forecast: Forecast, motion: NDArray[np.void]) -> _Answer:
    """What was said in the own frames of M agents of this MOTION (M,)."""
    paths, spread = np.empty(forecast.paths.shape), np.empty(forecast.spread.shape)
    probability, single = np.empty(forecast.probability.shape), np.empty(forecast.single.shape)
    _turned(*forecast, motion, paths, probability, spread, single)
    return _Answer(paths, probability, np.ones(probability.shape, bool), spread, single)


@compiled
def _turned(
    paths: Float32,
    probability: Float32,
    spread: Float32,
    single: Float32,
    motion: NDArray[Any],
    paths_in_map: Float,
    probability_of_one: Float,
    same_spread: Float,
    single_in_map: Float,
) -> None:
    """The last four are what becomes of the first four."""
    agents, modes, steps = spread.shape
    for i in range(agents):
        here, cos, sin = motion[i].xy, math.cos(motion[i].heading), math.sin(motion[i].heading)
        share = _moving_share(single[i], STANDS_M, MOVES_M)
        for t in range(steps):
            x, y = _kept(single[i], t, share)
            single_in_map[i, t, 0] = here[0] + x * cos - y * sin
            single_in_map[i, t, 1] = here[1] + x * sin + y * cos
        total, likeliest = 0.0, 0
        for k in range(modes):
            total += probability[i, k]
            likeliest = k if probability[i, k] > probability[i, likeliest] else likeliest
        for k in range(modes):
            probability_of_one[i, k] = probability[i, k] / total
            if motion[i].rests and k == likeliest:
                share = _moving_share(paths[i, k], RESTING_STANDS_M, RESTING_MOVES_M)
            else:
                share = _moving_share(paths[i, k], STANDS_M, MOVES_M)
            for t in range(steps):
                x, y = _kept(paths[i, k], t, share)
                paths_in_map[i, k, t, 0] = here[0] + x * cos - y * sin
                paths_in_map[i, k, t, 1] = here[1] + x * sin + y * cos
                same_spread[i, k, t] = spread[i, k, t]


@compiled
def _moving_share(path: Float32, stands_m: float, moves_m: float) -> float:
    """How much of what a path (S, 2) does after its first step is kept, see STANDS_M."""
    square = 0.0
    for t in range(len(path) - 1, 0, -1):  # most move, and are farthest at the end
        square = max(square, (path[t, 0] - path[0, 0]) ** 2 + (path[t, 1] - path[0, 1]) ** 2)
        if square >= moves_m**2:
            return 1.0
    return max(math.sqrt(square) - stands_m, 0.0) / (moves_m - stands_m)


@compiled
def _kept(path: Float32, t: int, share: float) -> tuple[float, float]:
    x, y = path[0, 0], path[0, 1]
    return x + share * (path[t, 0] - x), y + share * (path[t, 1] - y)


def _believed(before: NDArray[np.void], seen: NDArray[np.uint8], new: Bool) -> NDArray[np.void]:
    """(N,) CLASS after these classes were seen: one that flickers is not believed, a first one is."""
    after = before.copy()
    _see_classes(after, seen, new)
    return after


@compiled
def _see_classes(classes: NDArray[Any], seen: NDArray[np.uint8], new: Bool) -> None:
    for i in range(len(seen)):
        one, label = classes[i], seen[i] if seen[i] < CLASSES else UNKNOWN
        if new[i] or one.believed == UNKNOWN:
            one.believed = label
        if label == one.believed:
            one.times = 0
        else:
            one.times = one.times + 1 if label == one.other else 1
            if one.times == BELIEVED_AFTER:
                one.believed, one.times = label, 0
        one.other = label


def _duplicated(ids: Ids) -> Bool:
    """(N,) true for every appearance of an id but the first."""
    _, first = np.unique(ids, return_index=True)
    again = np.ones(len(ids), bool)
    again[first] = False
    return again


@compiled
def _leaps(motion: NDArray[Any], classes: NDArray[Any], xy: Float, stamp_ns: int) -> Bool:
    """(N,) whether one has come farther since it was seen last than its class can, see LEAP_M."""
    leaps = np.zeros(len(xy), np.bool_)
    for i in range(len(xy)):
        old = motion[i]
        if old.count > 0:
            reach = LEAP_M + FASTEST_MPS[classes[i].believed] * (stamp_ns - old.stamp_ns) / 1e9
            leaps[i] = math.hypot(xy[i, 0] - old.xy[0], xy[i, 1] - old.xy[1]) > reach
    return leaps


@compiled
def _usable(xy: Float) -> Bool:
    """(N,) whether a position can be one: finite, and not beyond any map."""
    usable = np.empty(len(xy), np.bool_)
    for i in range(len(xy)):
        usable[i] = abs(xy[i, 0]) <= POSITION_MAX_M and abs(xy[i, 1]) <= POSITION_MAX_M  # false for NaN
    return usable


def _observation(frame: TrackFrame, rows: Int) -> Observation:
    """The rows' observations; a yaw or velocity that cannot be one is not valid."""
    some: Int | slice = rows if len(rows) < len(frame) else slice(None)
    yaw, velocity = frame.yaw[some], frame.velocity[some]
    return Observation(
        frame.stamp_ns,
        frame.xy[some],
        yaw,
        frame.yaw_valid[some] & np.isfinite(yaw),
        velocity,
        frame.velocity_valid[some] & (np.abs(velocity).max(axis=1) <= SPEED_MAX_MPS),
    )
