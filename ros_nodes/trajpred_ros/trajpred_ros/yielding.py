"""How fast the ego may go, given its path and the predictions of the others.

Each mode of each object is swept along its path: between two poses, the convex hull of both footprints.
A mode conflicts when that enters the corridor (the ego's path, as wide as is asked for) ahead of the ego's
front. It does not where the ego, at its present speed, has left the place `time_margin_s` before; and who
comes from behind, in the corridor or in the ego's direction, has to wait for the ego.

A mode that conflicts allows a speed: that from which the ego, after a reaction time, can brake comfortably
to the object's speed along the path and end `standstill_gap_m` behind it, as though it had been on the path
all along. An object is yielded to when its conflicting modes add up to `confidence_threshold`: from the
lowest speed upwards, the speed at which they do is what it allows. The least of all objects and the cruise
speed is the target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.ops import substring

from trajpred.cdr import POSE, TWIST, PredictedObjects
from trajpred.config import NS_PER_S
from trajpred.errors import InputError
from trajpred.geometry import rotate, yaw_from_quaternion
from trajpred.messages import CYLINDER, POLYGON
from trajpred.types import Bool, Float, Int, Label, bytes_from_ids

REACTION_S = 0.5
BEYOND_M = 1e5  # how far an ego path goes on straight at both ends
FARTHEST_M, LARGEST_M, FASTEST_MPS = 1e9, 100.0, 200.0  # positions, sizes and velocities beyond are faults
OUTLINE = 16  # corners of an outline: boxes are exact, cylinders cover a little more than they are
_ANGLE = 2 * np.pi / OUTLINE
_NORMALS = np.stack([np.cos(_ANGLE * np.arange(OUTLINE)), np.sin(_ANGLE * np.arange(OUTLINE))])


@dataclass(frozen=True, slots=True)
class YieldConfig:
    """What the decision depends on; see the module. Lengths in m, times in s, accelerations in m/s^2.

    corridor_width_m is the ego's, margin_m is added at both sides; front_m and rear_m from the
    ego's reference point to its ends; predictions beyond horizon_s are ignored. use_predictions:
    otherwise only the present footprints count.
    """

    cruise_speed_mps: float = 10.0
    corridor_width_m: float = 2.2
    margin_m: float = 0.5
    front_m: float = 3.8
    rear_m: float = 1.0
    confidence_threshold: float = 0.3
    comfortable_deceleration_mps2: float = 2.0
    standstill_gap_m: float = 3.0
    time_margin_s: float = 1.0
    horizon_s: float = 5.0
    use_predictions: bool = True

    @property
    def half_width_m(self) -> float:
        """Half the corridor's width, margin included."""
        return self.corridor_width_m / 2 + self.margin_m

    @property
    def reach_m(self) -> float:
        """How far ahead of the front somebody can enter within the horizon and lower the target speed."""
        speed, braking = self.cruise_speed_mps, self.comfortable_deceleration_mps2
        return 1.0 + self.standstill_gap_m + speed * (REACTION_S + self.horizon_s) + speed**2 / (2 * braking)


class Ego(NamedTuple):
    """Where the ego's reference point is along its path, and how fast it goes."""

    arc_m: float
    speed_mps: float


class EgoPath:
    """A path as a line that goes on straight at both ends; arc lengths count from its first point."""

    def __init__(self, points: ArrayLike) -> None:
        """Through points (P, 2) m. Raises InputError for fewer than two, or for one that repeats the last."""
        points = np.asarray(points, np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not np.isfinite(points).all():
            raise InputError("an ego path is two or more points x, y, all finite")
        way = np.diff(points, axis=0)
        length = np.hypot(way[:, 0], way[:, 1])
        if not (length > 0).all():
            raise InputError(f"point {int(np.argmin(length)) + 1} of the ego path repeats the one before it")
        ends = BEYOND_M * way[[0, -1]] / length[[0, -1], None]
        self.line = shapely.LineString([points[0] - ends[0], *points, points[-1] + ends[1]])

    @classmethod
    def straight(cls, xy: ArrayLike, yaw: float) -> EgoPath:
        """Straight on from (2,) m in the direction yaw, rad."""
        xy = np.asarray(xy, np.float64)
        return cls([xy, xy + rotate((1.0, 0.0), yaw)])

    def arc_of(self, xy: ArrayLike) -> Any:
        """(..., 2) m -> (...) m, the arc length of the nearest point of the path."""
        return shapely.line_locate_point(self.line, shapely.points(xy)) - BEYOND_M

    def between(self, start_m: float, end_m: float) -> Any:
        """The line from one arc length to another."""
        return substring(self.line, start_m + BEYOND_M, end_m + BEYOND_M)


@dataclass(frozen=True, slots=True)
class Decision:
    """The target speed, m/s, and for whom: nobody (who is empty), or an object that lowers it.

    row: the object's; likelihood: the sum of its modes that conflict; the mode that decides enters the
    corridor after entry_s, ahead_m in front of the ego, at along_mps along its path. since_s: how long ago
    that was so.
    """

    target_speed_mps: float
    who: str = ""
    row: int = -1
    likelihood: float = 0.0
    entry_s: float = 0.0
    ahead_m: float = 0.0
    along_mps: float = 0.0
    since_s: float = 0.0

    @property
    def reason(self) -> str:
        """One line to read."""
        if not self.who:
            return "clear"
        since = f", {self.since_s:.1f} s ago" if self.since_s else ""
        if self.entry_s == 0:
            return f"yield to {self.who}: in the corridor now, {self.ahead_m:.0f} m ahead{since}"
        return (
            f"yield to {self.who}: {self.likelihood:.2f} likely in the corridor in {self.entry_s:.1f} s, "
            f"{self.ahead_m:.0f} m ahead{since}"
        )


class Caution:
    """Keeps to the lowest speed of the last moments: who is missed in one message is still there."""

    def __init__(self) -> None:
        self._lately: list[tuple[int, Decision]] = []

    def after(self, decision: Decision, stamp_ns: int, clear_ns: int) -> Decision:
        """The decision, or an earlier one for a lower speed, at most clear_ns ago.

        A stamp that comes again replaces what was decided for it; one before all of the last moments is a
        jump back in time: nothing is kept.
        """
        if self._lately and stamp_ns < self._lately[0][0]:
            self._lately.clear()
        kept = [(t, what) for t, what in self._lately if t != stamp_ns and stamp_ns - t < clear_ns]
        self._lately = [*kept, (stamp_ns, decision)]
        when, lowest = min(self._lately, key=lambda pair: (pair[1].target_speed_mps, -pair[0]))
        return replace(lowest, since_s=max(stamp_ns - when, 0) / NS_PER_S)


def decide(predicted: PredictedObjects, path: EgoPath, ego: Ego, config: YieldConfig) -> Decision:
    """The target speed for what is predicted; see the module for the rule.

    An object without a path is one that stays. What has no finite position, now or at a pose, is not
    there. Confidences of an object are shares of their sum.
    """
    modes = _modes(predicted, config.use_predictions)
    entry = _entries(modes, _outlines(predicted), path, ego, config)
    allowed = allowed_speed(entry.ahead_m, entry.time_s, entry.along_mps, config)
    row, weight = modes.row[entry.mode], modes.weight[entry.mode]
    order = np.lexsort((entry.ahead_m, allowed, row))
    summed = np.cumsum(weight[order])
    _, first, place = np.unique(row[order], return_index=True, return_inverse=True)
    summed -= (summed[first] - weight[order][first])[place]
    decisive = order[summed >= config.confidence_threshold - 1e-6]  # float32 in the message
    chosen = decisive[np.argmin(allowed[decisive])] if decisive.size else -1
    if chosen < 0 or allowed[chosen] >= config.cruise_speed_mps:
        return Decision(config.cruise_speed_mps)
    return Decision(
        target_speed_mps=float(allowed[chosen]),
        who=_name(predicted, int(row[chosen])),
        row=int(row[chosen]),
        likelihood=float(weight[row == row[chosen]].sum()),
        entry_s=float(entry.time_s[chosen]),
        ahead_m=float(entry.ahead_m[chosen]),
        along_mps=float(entry.along_mps[chosen]),
    )


def allowed_speed(ahead_m: Float, time_s: Float, along_mps: Float, config: YieldConfig) -> Float:
    """(H,) m/s that an object allows which enters so far ahead, then, at that speed along the path.

    With braking b, reaction time r, and room D to stay clear of it: u + w with w r + w^2 / (2 b) = D.
    Where there is no room the ego falls back, so that there is some when the object enters.
    """
    braking, lag = config.comfortable_deceleration_mps2, REACTION_S
    leader = np.maximum(along_mps, 0.0)
    room = ahead_m - config.standstill_gap_m - leader * time_s
    faster = np.sqrt((braking * lag) ** 2 + 2 * braking * np.maximum(room, 0.0)) - braking * lag
    slower = room / np.maximum(time_s, lag)
    allowed: Float = np.clip(leader + np.where(room > 0, faster, slower), 0.0, config.cruise_speed_mps)
    return allowed


class _Modes(NamedTuple):
    """M modes: poses first to last (inclusive) of xy (P, 2) and yaw (P,), step_s apart, of object row."""

    row: Int
    weight: Float
    first: Int
    last: Int
    step_s: Float
    xy: Float
    yaw: Float
    velocity: Float  # (M, 2) m/s of the object now


def _modes(predicted: PredictedObjects, use_predictions: bool) -> _Modes:
    """The modes that have a pose, and one that stays for each object without any."""
    count = np.diff(predicted.pose_start)
    known = count > 0
    row = np.repeat(np.arange(len(predicted)), np.diff(predicted.path_start))[known]
    weight = np.nan_to_num(predicted.confidence.astype(np.float64)[known], posinf=0.0).clip(0.0)
    total = np.bincount(row, weight, len(predicted))[row]
    share = np.bincount(row, minlength=len(predicted))[row]
    weight = np.where(total > 0, weight / np.where(total > 0, total, 1.0), 1.0 / np.maximum(share, 1))
    first = predicted.pose_start[:-1][known]
    step_s = predicted.time_step_ns[known] / NS_PER_S
    last = first + np.where((step_s > 0) & use_predictions, count[known] - 1, 0)

    without = np.setdiff1d(np.arange(len(predicted)), row)
    place = len(predicted.poses) + np.arange(without.size)
    poses = np.concatenate([predicted.poses, predicted.state[without, POSE]])
    row = np.concatenate([row, without])
    placed = (np.abs(poses[:, :2]) < FARTHEST_M).all(axis=1)
    yaw = yaw_from_quaternion(_sane(poses[:, 3:], FARTHEST_M))
    first = np.concatenate([first, place])
    return _Modes(
        row=row,
        weight=np.concatenate([weight, np.ones(without.size)]),
        first=first,
        last=np.concatenate([last, place]),
        step_s=np.concatenate([step_s, np.zeros(without.size)]),
        xy=np.where(placed[:, None], poses[:, :2], np.nan),
        yaw=yaw,
        velocity=rotate(_sane(predicted.state[row][:, TWIST][:, :2], FASTEST_MPS), yaw[first]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Sweep:
    """S steps of modes, from one pose to the next (or of a single pose, to itself), in order of time."""

    mode: Int
    start: Int
    end: Int
    time_s: Float  # (S,) at the start

    def take(self, rows: Any) -> _Sweep:
        return _Sweep(self.mode[rows], self.start[rows], self.end[rows], self.time_s[rows])


def _sweep(modes: _Modes, horizon_s: float) -> _Sweep:
    """The steps that begin within the horizon and have a place."""
    count = np.maximum(modes.last - modes.first, 1)
    mode = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(mode)) - np.repeat(np.cumsum(count) - count, count)
    start: Int = modes.first[mode] + number
    placed: Bool = np.asarray(np.isfinite(modes.xy).all(axis=1))
    end: Int = np.asarray(np.minimum(start + 1, modes.last[mode]))
    sweep = _Sweep(mode, start, np.where(placed[end], end, start), number * modes.step_s[mode])
    return sweep.take(placed[start] & (sweep.time_s <= horizon_s))


class _Entries(NamedTuple):
    """H modes that conflict: when, how far ahead of the ego's front, how fast along its path."""

    mode: Int
    time_s: Float
    ahead_m: Float
    along_mps: Float


def _entries(modes: _Modes, outlines: Float, path: EgoPath, ego: Ego, config: YieldConfig) -> _Entries:
    """The first conflict of each mode that has one."""
    front_m = ego.arc_m + config.front_m
    line = path.between(front_m, front_m + config.reach_m)
    corridor = line.buffer(config.half_width_m, cap_style="flat")
    shapely.prepare(corridor)

    steps = _sweep(modes, config.horizon_s)
    radius = np.hypot(outlines[..., 0], outlines[..., 1]).max(axis=1)[modes.row[steps.mode], None]
    low = np.minimum(modes.xy[steps.start], modes.xy[steps.end]) - radius
    high = np.maximum(modes.xy[steps.start], modes.xy[steps.end]) + radius
    least, most = np.reshape(corridor.bounds, (2, 2))
    around = np.flatnonzero(((low <= most) & (high >= least)).all(axis=1))
    boxes = shapely.STRtree(shapely.box(*low[around].T, *high[around].T))
    steps = steps.take(around[np.sort(boxes.query(corridor, predicate="intersects"))])
    outline = outlines[modes.row[steps.mode]]
    start, end = (
        modes.xy[pose, None] + rotate(outline, modes.yaw[pose, None]) for pose in (steps.start, steps.end)
    )
    hit = np.flatnonzero(shapely.intersects(corridor, _swept(start, end)))
    steps, start, end = steps.take(hit), start[hit], end[hit]

    _, first = np.unique(steps.mode, return_index=True)
    share = np.zeros(len(hit))  # of a step that is over before it enters; later steps begin inside
    share[first] = _outside(start[first], end[first], corridor)
    time_s = steps.time_s + share * modes.step_s[steps.mode]
    entered = _swept(start + share[:, None, None] * (end - start), end)
    near_m, far_m = _extent(shapely.intersection(entered, corridor), line)
    along_mps, speed_mps = _speeds(modes, steps, path, front_m + near_m)

    rear_m = ego.speed_mps * (time_s - config.time_margin_s) - config.rear_m - config.front_m
    now_xy = modes.xy[modes.first[steps.mode]]
    now = shapely.points(np.where(np.isfinite(now_xy), now_xy, modes.xy[steps.start]))
    with_ego = (shapely.distance(now, path.line) <= config.half_width_m) | (along_mps > 0.7 * speed_mps)
    behind = (shapely.line_locate_point(path.line, now) - BEYOND_M < front_m) & with_ego
    counts = np.flatnonzero((far_m > rear_m) & ~behind & (time_s <= config.horizon_s))
    _, first = np.unique(steps.mode[counts], return_index=True)
    first = counts[first]
    return _Entries(steps.mode[first], time_s[first], near_m[first], along_mps[first])


def _outside(start: Float, end: Float, corridor: Any) -> Float:
    """(H,) how much of the way from start to end (H, V, 2) each is sure not to touch; 2^-12 exact."""
    low, high = np.zeros(len(start)), np.ones(len(start))
    for _ in range(12):
        middle = (low + high) / 2
        touches = shapely.intersects(corridor, _swept(start, start + middle[:, None, None] * (end - start)))
        low, high = np.where(touches, low, middle), np.where(touches, middle, high)
    return low


def _swept(start: Float, end: Float) -> NDArray[Any]:
    """(H,) convex hulls of the corners (H, V, 2) at both ends."""
    return np.asarray(shapely.convex_hull(shapely.linestrings(np.concatenate([start, end], axis=1))))


def _extent(parts: NDArray[Any], line: Any) -> tuple[Float, Float]:
    """(H,) the least and the greatest arc length of each part along the line."""
    corners, part = shapely.get_coordinates(parts, return_index=True)
    arc_m = shapely.line_locate_point(line, shapely.points(corners))
    near_m, far_m = np.full(len(parts), np.inf), np.full(len(parts), -np.inf)
    np.minimum.at(near_m, part, arc_m)
    np.maximum.at(far_m, part, arc_m)
    return near_m, far_m


def _speeds(modes: _Modes, steps: _Sweep, path: EgoPath, arc_m: Float) -> tuple[Float, Float]:
    """(H,) m/s along the path, there, and over ground."""
    step_s = modes.step_s[steps.mode, None]
    moves = (steps.end > steps.start)[:, None]
    way = modes.xy[steps.end] - modes.xy[steps.start]
    velocity = np.where(moves, way / np.where(moves, step_s, 1.0), modes.velocity[steps.mode])
    ends = (shapely.line_interpolate_point(path.line, BEYOND_M + arc_m + to) for to in (-0.5, 0.5))
    back, on = (np.stack([shapely.get_x(point), shapely.get_y(point)], axis=-1) for point in ends)
    along = (velocity * (on - back)).sum(axis=1) / np.maximum(np.hypot(*(on - back).T), 1e-9)
    return along, np.hypot(velocity[:, 0], velocity[:, 1])


def _outlines(predicted: PredictedObjects) -> Float:
    """(N, OUTLINE, 2) m, the corners of each object's convex outline, in its own frame.

    They are where the tangents meet that touch it in OUTLINE directions.
    """
    half = _sane(predicted.dimensions[:, :2], LARGEST_M).clip(0.0) / 2
    reach = half @ np.abs(_NORMALS)  # (N, OUTLINE), how far it extends in each direction
    reach = np.where((predicted.shape_type == CYLINDER)[:, None], half[:, :1], reach)
    drawn = np.flatnonzero(np.diff(predicted.point_start) > 0)
    if drawn.size:
        points = _sane(predicted.points[:, :2], LARGEST_M)
        extent = np.maximum.reduceat(points @ _NORMALS, predicted.point_start[drawn])
        polygon = predicted.shape_type[drawn] == POLYGON
        reach[drawn[polygon]] = extent[polygon]
    aside = (np.roll(reach, -1, axis=1) - reach * np.cos(_ANGLE)) / np.sin(_ANGLE)
    cos, sin = _NORMALS
    return np.stack([reach * cos - aside * sin, reach * sin + aside * cos], axis=-1)


def _sane(values: ArrayLike, limit: float) -> Float:
    """The values within the limit, 0 for those that are not numbers."""
    clipped: Float = np.nan_to_num(np.clip(np.asarray(values, np.float64), -limit, limit))
    return clipped


def _name(predicted: PredictedObjects, row: int) -> str:
    """Such as `bicycle 0000002a`: the most probable class, and the end of the id."""
    classes = slice(*predicted.class_start[row : row + 2])
    probability = np.nan_to_num(predicted.class_probability[classes], nan=-1.0)
    label = int(predicted.class_label[classes][np.argmax(probability)]) if probability.size else 0
    word = Label(label).name.lower() if label in set(Label) else "unknown"
    return f"{word} {bytes_from_ids(predicted.ids[row : row + 1]).tobytes().hex()[-8:]}"
