"""What happened to a track since its last observation, in the track's own frame.

`advance` is the only place where step features are made: the live predictor calls it once per
perception tick, training and offline evaluation fold it over a history. Every feature is relative to
the track's own previous pose, so a recurrent state stays valid from tick to tick, and whole histories
and single steps give the same numbers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trajpred.compiled import compiled
from trajpred.geometry import rotate
from trajpred.types import Bool, Float, Float32, Int

FEATURES = (
    "forward_mps",  # displacement since the last observation over the elapsed time, along the new heading
    "left_mps",
    "turn_sin",  # turn of the reference heading since the last observation
    "turn_cos",
    "elapsed_s",
    "moved",  # 1 from the second observation on: the five above are known
    "oriented",  # 1 where the heading was known before this observation: the turn is known
    "tracker_forward_mps",  # the tracker's own velocity
    "tracker_left_mps",
    "tracker_velocity_valid",
    "tracker_yaw_valid",
)
"""Names of the step features in order; an artefact with another list does not fit this code."""

VELOCITY = slice(0, 2)
"""Those of the last displacement over its time, m/s in the agent's own frame; 0 for who was seen once."""

RELATION = ("ahead_m", "left_m", "forward_mps", "left_mps", "heading_sin", "heading_cos", "inverse_gap")
"""Names of what an agent sees of a neighbour, in the agent's own frame."""

TOW_M = 0.2
"""The heading is that of a trailer on a drawbar of this length: jitter at standstill does not turn it."""
RESTS_M, RESTS_AFTER_S = 0.3, 1.0
"""Who has not come farther than this in so long rests: 0.05 m of noise, in x and in y, stay within it."""
SPEED_TIME_S = 0.8
SPEED_MAX_MPS = 1e3
"""No road user is faster: a larger displacement is a fault of the tracker, and is cut to this."""
_STILL_MPS = 1e-6


MOTION = np.dtype(
    [
        ("stamp_ns", np.int64),
        ("xy", np.float64, 2),
        ("heading", np.float64),
        ("towed", np.float64, 2),
        ("velocity", np.float64, 2),
        ("turn_rate", np.float64),
        ("interval_s", np.float64),
        ("speed", np.float64),
        ("count", np.int64),
        ("oriented", np.bool_),
        ("facing", np.float64),
        ("mark", np.float64, 2),
        ("left_ns", np.int64),
        ("rests", np.bool_),
    ],
    align=True,
)
"""What is remembered of one track, see Motion."""


class Motion:
    """What is remembered of each track between observations: rows (N,) of MOTION, and its columns.

    stamp_ns (N,) int64 of the last observation; xy (N, 2) m; heading (N,) rad, the reference heading
    (the tracker's yaw where valid, else the direction of travel); towed (N, 2) m, the point that is drawn
    behind at TOW_M, which gives that direction; oriented (N,) whether a direction has ever been seen;
    velocity (N, 2) m/s, the last displacement
    over its time, or the tracker's velocity after a single observation; turn_rate (N,) rad/s between
    the last two displacements; interval_s (N,) between the last two observations, 0 after a single one;
    speed (N,) m/s, low-pass filtered; count (N,) observations so far.

    rests (N,) whether it has been at one place, within RESTS_M of mark (N, 2) m since left_ns (N,), for
    RESTS_AFTER_S; facing (N,) rad, the heading, but for who rests with a yaw that nobody knows: what it was.
    """

    __slots__ = ("rows",)
    stamp_ns: Int
    xy: Float
    heading: Float
    towed: Float
    velocity: Float
    turn_rate: Float
    interval_s: Float
    speed: Float
    count: Int
    oriented: Bool
    facing: Float
    mark: Float
    left_ns: Int
    rests: Bool

    def __init__(self, rows: NDArray[np.void]) -> None:
        self.rows = rows

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name not in MOTION.fields:  # type: ignore[operator]
            raise AttributeError(name)
        return self.rows[name]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def empty(cls, n: int) -> Motion:
        """(n,) tracks that have not been observed yet."""
        return cls(np.zeros(n, MOTION))


class Observation(NamedTuple):
    """One observation of each of N tracks: stamp_ns a scalar or (N,); the rest as in TrackFrame."""

    stamp_ns: int | Int
    xy: Float
    yaw: Float
    yaw_valid: Bool
    velocity: Float
    velocity_valid: Bool


def advance(before: Motion, seen: Observation) -> tuple[Motion, Float32]:
    """Take in one observation of each track.

    Returns the memory after it and the step features (N, len(FEATURES)) float32. Rows of `before` with
    count 0 are new tracks.
    """
    n = len(before)
    after, features = Motion(np.empty(n, MOTION)), np.empty((n, len(FEATURES)), np.float32)
    _advance(
        before.rows,
        np.full(n, seen.stamp_ns),
        np.ascontiguousarray(seen.xy),
        np.ascontiguousarray(seen.yaw),
        np.ascontiguousarray(seen.yaw_valid),
        np.ascontiguousarray(seen.velocity),
        np.ascontiguousarray(seen.velocity_valid),
        after.rows,
        features,
    )
    return after, features


@compiled
def _advance(
    before: NDArray[Any],
    stamp_ns: Int,
    xy: Float,
    yaw: Float,
    yaw_valid: Bool,
    velocity: Float,
    velocity_valid: Bool,
    after: NDArray[Any],
    features: Float32,
) -> None:
    for i in range(len(before)):
        old, new, step = before[i], after[i], features[i]
        x, y = xy[i, 0], xy[i, 1]
        told_x, told_y, told, aimed = velocity[i, 0], velocity[i, 1], velocity_valid[i], yaw_valid[i]
        moved = old.count > 0
        elapsed = (stamp_ns[i] - old.stamp_ns) / 1e9 if moved else 1.0

        # The last displacement over its time.
        vx = min(max((x - old.xy[0]) / elapsed, -1e100), 1e100) if moved else 0.0
        vy = min(max((y - old.xy[1]) / elapsed, -1e100), 1e100) if moved else 0.0
        speed = math.hypot(vx, vy)
        if speed > SPEED_MAX_MPS:
            vx, vy, speed = vx * SPEED_MAX_MPS / speed, vy * SPEED_MAX_MPS / speed, SPEED_MAX_MPS

        # The agent draws a point behind it on a drawbar of TOW_M, as a car draws a trailer; the heading is
        # the drawbar's. It follows a turn within that distance at any rate of observations, and what moves
        # less than the drawbar gives does not turn it. A first direction is taken from any displacement, else
        # from the tracker's velocity; the tracker's yaw is taken as it is.
        towed_x, towed_y = (old.towed[0], old.towed[1]) if moved else (x, y)
        bar_x, bar_y = x - towed_x, y - towed_y
        reach = math.hypot(bar_x, bar_y)
        pulled = reach > (TOW_M if old.oriented else _STILL_MPS)
        hinted = not old.oriented and not pulled and told and math.hypot(told_x, told_y) > _STILL_MPS
        heading = old.heading
        if aimed:
            heading = (yaw[i] + math.pi) % (2 * math.pi) - math.pi
        elif pulled:
            heading = math.atan2(bar_y, bar_x)
        elif hinted:
            heading = math.atan2(told_y, told_x)
        turned = pulled or hinted or aimed
        cos, sin = math.cos(heading), math.sin(heading)
        # A short first displacement keeps its start.
        if turned and (reach > TOW_M or not pulled or aimed):
            towed_x, towed_y = x - TOW_M * cos, y - TOW_M * sin

        # Whoever comes farther than RESTS_M from the mark has left the place, and marks another.
        mark_x, mark_y, left_ns = old.mark[0], old.mark[1], old.left_ns
        if not moved or math.hypot(x - mark_x, y - mark_y) > RESTS_M:
            mark_x, mark_y, left_ns = x, y, stamp_ns[i]
        rests = stamp_ns[i] - left_ns >= RESTS_AFTER_S * 1e9

        # Between the middles of the last two displacements.
        turn_rate = 0.0
        last_x, last_y = old.velocity[0], old.velocity[1]
        if old.count > 1 and speed > _STILL_MPS and math.hypot(last_x, last_y) > _STILL_MPS:
            angle = math.atan2(vy * last_x - vx * last_y, vx * last_x + vy * last_y)
            turn_rate = angle / (0.5 * (elapsed + old.interval_s))

        turn = heading - old.heading if old.oriented else 0.0
        step[0], step[1] = vx * cos + vy * sin, vy * cos - vx * sin
        step[2], step[3] = math.sin(turn), math.cos(turn) if old.oriented else 0.0
        step[4] = elapsed if moved else 0.0
        step[5], step[6] = moved, old.oriented
        step[7] = told_x * cos + told_y * sin if told else 0.0
        step[8] = told_y * cos - told_x * sin if told else 0.0
        step[9], step[10] = told, aimed

        if told and not moved:  # then the tracker's own velocity is all there is
            vx, vy, speed = told_x, told_y, math.hypot(told_x, told_y)
        settled = 1.0 - math.exp(-elapsed / SPEED_TIME_S) if old.speed > 0 else 1.0
        new.stamp_ns = stamp_ns[i]
        new.xy[0], new.xy[1] = x, y
        new.heading = heading
        new.towed[0], new.towed[1] = towed_x, towed_y
        new.velocity[0], new.velocity[1] = vx, vy
        new.turn_rate = turn_rate
        new.interval_s = elapsed if moved else 0.0
        new.speed = old.speed + settled * (speed - old.speed)
        new.count = old.count + 1
        new.oriented = old.oriented or turned
        new.facing = old.facing if rests and old.oriented and not aimed else heading
        new.mark[0], new.mark[1] = mark_x, mark_y
        new.left_ns, new.rests = left_ns, rests


class History(NamedTuple):
    """A folded history: steps (N, T, F) float32, mask (N, T), and the memory after the last step."""

    steps: Float32
    mask: Bool
    motion: Motion


def fold(
    stamp_ns: Int,
    xy: Float,
    valid: Bool,
    yaw: Float | None = None,
    yaw_valid: Bool | None = None,
    velocity: Float | None = None,
    velocity_valid: Bool | None = None,
) -> History:
    """Take in whole histories, oldest first: stamp_ns (T,), xy (N, T, 2) m, valid (N, T), and so on.

    The same numbers as calling `advance` tick by tick; steps that are not valid are skipped.
    """
    n, steps = valid.shape
    none = np.zeros(n, bool)
    motion = Motion.empty(n)
    features = np.zeros((n, steps, len(FEATURES)), np.float32)
    for t in range(steps):
        seen = Observation(
            stamp_ns[t],
            xy[:, t],
            np.zeros(n) if yaw is None else yaw[:, t],
            none if yaw_valid is None else yaw_valid[:, t],
            np.zeros((n, 2)) if velocity is None else velocity[:, t],
            none if velocity_valid is None else velocity_valid[:, t],
        )
        after, step = advance(motion, seen)
        motion = Motion(np.where(valid[:, t], after.rows, motion.rows))
        features[:, t] = np.where(valid[:, t, None], step, 0.0)
    return History(features, valid, motion)


class Neighbours(NamedTuple):
    """For M agents at most J neighbours each; where the mask is false the rest is zero.

    rows (M, J) into the N agents; mask (M, J); relation (M, J, len(RELATION)) float32.
    """

    rows: Int
    mask: Bool
    relation: Float32


def neighbours(motion: Motion, group: Int, select: Int, count: int, radius_m: float) -> Neighbours:
    """The nearest `count` others of the same group within radius_m, for the selected (M,) rows."""
    shape = (len(select), max(count, 1))
    near = Neighbours(
        np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros((*shape, len(RELATION)), np.float32)
    )
    if count and len(group) > 1:
        # Along x within each group, so that all who are near are near in this order as well.
        order = np.lexsort((motion.rows["xy"][:, 0], group))
        _neighbours(motion.rows, group, np.asarray(select), order, float(radius_m), *near)
    return near


@compiled
def _neighbours(
    motion: NDArray[Any],
    group: Int,
    select: Int,
    order: Int,
    radius_m: float,
    rows: Int,
    mask: Bool,
    relation: Float32,
) -> None:
    n, count = len(order), rows.shape[1]
    # What the search reads of everybody, in its order and close together.
    xs, ys, groups, place = np.empty(n), np.empty(n), np.empty(n, np.int64), np.empty(n, np.int64)
    cos, sin = np.empty(n), np.empty(n)
    for at in range(n):
        one = order[at]
        xs[at], ys[at], groups[at], place[one] = motion[one].xy[0], motion[one].xy[1], group[one], at
        cos[at], sin[at] = math.cos(motion[at].heading), math.sin(motion[at].heading)
    squares = np.empty(count)  # of the gaps to the nearest so far
    for m in range(len(select)):
        me, found, reach = select[m], 0, radius_m * radius_m
        here = place[me]
        x, y = xs[here], ys[here]
        for way in (-1, 1):
            at = here
            while 0 <= at + way < n:
                at += way
                ahead, aside = xs[at] - x, ys[at] - y
                if groups[at] != groups[here] or not ahead * ahead <= reach:
                    break
                square = ahead * ahead + aside * aside
                if not square <= reach:
                    continue
                # Where it belongs among the nearest so far; of equally near ones the lower row comes first.
                other, rank = order[at], found
                while rank > 0 and (
                    square < squares[rank - 1] or (square == squares[rank - 1] and other < rows[m, rank - 1])
                ):
                    rank -= 1
                if rank < count:
                    found = min(found + 1, count)
                    for later in range(found - 1, rank, -1):
                        squares[later], rows[m, later] = squares[later - 1], rows[m, later - 1]
                    squares[rank], rows[m, rank] = square, other
                    if found == count:
                        reach = squares[count - 1]
        vx, vy, c, s = motion[me].velocity[0], motion[me].velocity[1], cos[me], sin[me]
        for rank in range(found):
            other, seen = rows[m, rank], relation[m, rank]
            mask[m, rank] = True
            dx, dy = motion[other].xy[0] - x, motion[other].xy[1] - y
            seen[0], seen[1] = dx * c + dy * s, dy * c - dx * s
            dx, dy = motion[other].velocity[0] - vx, motion[other].velocity[1] - vy
            seen[2], seen[3] = dx * c + dy * s, dy * c - dx * s
            seen[4], seen[5] = sin[other] * c - cos[other] * s, cos[other] * c + sin[other] * s
            seen[6] = 1.0 / (1.0 + math.sqrt(squares[rank]))


def to_agent(vector: Float, heading: Float) -> Float:
    """(..., 2) map axes -> the frame of an agent with this heading (...,)."""
    return rotate(vector, -heading)


def to_map(vector: Float, heading: Float) -> Float:
    """(..., 2) in the frame of an agent with this heading (...,) -> map axes."""
    return rotate(vector, heading)
