"""What happened to a track since its last observation, in the track's own frame.

`advance` is the only place where step features are made: the live predictor calls it once per
perception tick, training and offline evaluation fold it over a history. Every feature is relative to
the track's own previous pose, so a recurrent state stays valid from tick to tick, and whole histories
and single steps give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import shapely

from trajpred.config import NS_PER_S
from trajpred.geometry import rotate, wrap_angle
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

RELATION = ("ahead_m", "left_m", "forward_mps", "left_mps", "heading_sin", "heading_cos", "inverse_gap")
"""Names of what an agent sees of a neighbour, in the agent's own frame."""

TOW_M = 0.2
"""The heading is that of a trailer on a drawbar of this length: jitter at standstill does not turn it."""
SPEED_TIME_S = 0.8
SPEED_MAX_MPS = 1e3
"""No road user is faster: a larger displacement is a fault of the tracker, and is cut to this."""
_STILL_MPS = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What is remembered of each track between observations; one row per track.

    stamp_ns (N,) int64 of the last observation; xy (N, 2) m; heading (N,) rad, the reference heading
    (the tracker's yaw where valid, else the direction of travel); towed (N, 2) m, the point that is drawn
    behind at TOW_M, which gives that direction; oriented (N,) whether a direction has ever been seen;
    velocity (N, 2) m/s, the last displacement
    over its time, or the tracker's velocity after a single observation; turn_rate (N,) rad/s between
    the last two displacements; interval_s (N,) between the last two observations, 0 after a single one;
    speed (N,) m/s, low-pass filtered; count (N,) observations so far.
    """

    stamp_ns: Int
    xy: Float
    heading: Float
    towed: Float
    oriented: Bool
    velocity: Float
    turn_rate: Float
    interval_s: Float
    speed: Float
    count: Int

    @classmethod
    def empty(cls, n: int) -> Motion:
        """(n,) tracks that have not been observed yet."""
        return cls(
            stamp_ns=np.zeros(n, np.int64),
            xy=np.zeros((n, 2)),
            heading=np.zeros(n),
            towed=np.zeros((n, 2)),
            oriented=np.zeros(n, bool),
            velocity=np.zeros((n, 2)),
            turn_rate=np.zeros(n),
            interval_s=np.zeros(n),
            speed=np.zeros(n),
            count=np.zeros(n, np.int64),
        )

    def where(self, mask: Bool, other: Motion) -> Motion:
        """Row by row: self where the mask is true, other elsewhere."""

        def pick(name: str) -> Float:
            ours, theirs = getattr(self, name), getattr(other, name)
            chosen: Float = np.where(mask.reshape(-1, *[1] * (ours.ndim - 1)), ours, theirs)
            return chosen

        return Motion(**{f.name: pick(f.name) for f in fields(self)})  # type: ignore[arg-type]


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
    moved = before.count > 0
    elapsed = np.where(moved, (seen.stamp_ns - before.stamp_ns) / NS_PER_S, 1.0)
    velocity = np.where(moved[:, None], (seen.xy - before.xy) / elapsed[:, None], 0.0)
    velocity = _capped(velocity)
    # After a single observation the tracker's own velocity is all there is.
    told = ~moved & seen.velocity_valid
    known_velocity = np.where(told[:, None], seen.velocity, velocity)
    speed_now = _length(known_velocity)
    settle = np.where(before.speed > 0, 1.0 - np.exp(-elapsed / SPEED_TIME_S), 1.0)

    heading, towed, oriented = _tow(before, seen)
    turn = np.where(before.oriented, heading - before.heading, 0.0)
    after = Motion(
        stamp_ns=np.broadcast_to(np.asarray(seen.stamp_ns, np.int64), moved.shape).copy(),
        xy=seen.xy,
        heading=heading,
        towed=towed,
        oriented=oriented,
        velocity=known_velocity,
        turn_rate=_turn_rate(before, velocity, elapsed),
        interval_s=np.where(moved, elapsed, 0.0),
        speed=before.speed + settle * (speed_now - before.speed),
        count=before.count + 1,
    )
    own = to_agent(velocity, heading)
    tracker = np.where(seen.velocity_valid[:, None], to_agent(seen.velocity, heading), 0.0)
    features = np.stack(
        [
            own[:, 0],
            own[:, 1],
            np.sin(turn),
            np.where(before.oriented, np.cos(turn), 0.0),
            np.where(moved, elapsed, 0.0),
            moved,
            before.oriented,
            tracker[:, 0],
            tracker[:, 1],
            seen.velocity_valid,
            seen.yaw_valid,
        ],
        axis=1,
    )
    return after, features.astype(np.float32)


def _tow(before: Motion, seen: Observation) -> tuple[Float, Float, Bool]:
    """The new heading (N,), the towed point (N, 2), and whether there is a direction (N,).

    The agent draws a point behind it on a drawbar of TOW_M, as a car draws a trailer; the heading is the
    drawbar's. It follows a turn within that distance at any rate of observations, and what moves less
    than the drawbar gives does not turn it. A first direction is taken from any displacement, else from
    the tracker's velocity; the tracker's yaw is taken as it is.
    """
    drawbar = np.where((before.count > 0)[:, None], seen.xy - before.towed, 0.0)
    reach = _length(drawbar)
    pulled = reach > np.where(before.oriented, TOW_M, _STILL_MPS)
    hinted = ~before.oriented & ~pulled & seen.velocity_valid & (_length(seen.velocity) > _STILL_MPS)
    direction = np.where(hinted[:, None], seen.velocity, drawbar)
    heading = np.where(pulled | hinted, np.arctan2(direction[:, 1], direction[:, 0]), before.heading)
    heading = np.where(seen.yaw_valid, wrap_angle(seen.yaw), heading)
    turned = pulled | hinted | seen.yaw_valid
    behind = seen.xy - TOW_M * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    # A new track without direction is its own towed point; a short first displacement keeps its start.
    kept = np.where((before.count > 0)[:, None], before.towed, seen.xy)
    towed = np.where((turned & ((reach > TOW_M) | ~pulled | seen.yaw_valid))[:, None], behind, kept)
    return heading, towed, before.oriented | turned


def _turn_rate(before: Motion, velocity: Float, elapsed: Float) -> Float:
    """(N,) rad/s between the middles of the last two displacements; 0 where there are not two."""
    turning = (before.count > 1) & (_length(velocity) > _STILL_MPS) & (_length(before.velocity) > _STILL_MPS)
    turn = wrap_angle(
        np.arctan2(velocity[:, 1], velocity[:, 0]) - np.arctan2(before.velocity[:, 1], before.velocity[:, 0])
    )
    return np.where(turning, turn / (0.5 * (elapsed + before.interval_s)), 0.0)


def _capped(velocity: Float) -> Float:
    """(N, 2) m/s, no faster than SPEED_MAX_MPS; finite whatever comes in."""
    velocity = np.clip(velocity, -1e100, 1e100)
    return velocity * np.minimum(1.0, SPEED_MAX_MPS / np.maximum(_length(velocity), 1.0))[:, None]


def _length(vectors: Float) -> Float:
    """(N, 2) -> (N,)."""
    length: Float = np.hypot(vectors[:, 0], vectors[:, 1])
    return length


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
        motion = after.where(valid[:, t], motion)
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
    m = len(select)
    width = max(count, 1)
    rows = np.zeros((m, width), np.int64)
    mask = np.zeros((m, width), bool)
    relation = np.zeros((m, width, len(RELATION)), np.float32)
    if count == 0 or m == 0 or len(group) < 2:
        return Neighbours(rows, mask, relation)
    me, other, gap = _pairs(motion.xy, group, select, radius_m)
    order = np.lexsort((other, gap, me))
    me, other, gap = me[order], other[order], gap[order]
    rank = np.arange(len(me)) - np.searchsorted(me, me)
    kept = rank < count
    me, other, gap, rank = me[kept], other[kept], gap[kept], rank[kept]
    rows[me, rank] = other
    mask[me, rank] = True
    mine = select[me]
    ahead = to_agent(motion.xy[other] - motion.xy[mine], motion.heading[mine])
    velocity = to_agent(motion.velocity[other] - motion.velocity[mine], motion.heading[mine])
    angle = motion.heading[other] - motion.heading[mine]
    relation[me, rank] = np.column_stack(
        [ahead, velocity, np.sin(angle), np.cos(angle), 1.0 / (1.0 + gap)]
    ).astype(np.float32)
    return Neighbours(rows, mask, relation)


def _pairs(xy: Float, group: Int, select: Int, radius_m: float) -> tuple[Int, Int, Float]:
    """All (row of select, other agent, distance) within the radius and the group."""
    # Groups are laid side by side, so that the tree finds few pairs of two groups; none of them is kept.
    _, rank = np.unique(group, return_inverse=True)
    low = xy.min(axis=0)
    width = float((xy[:, 0] - low[0]).max()) + 2.0 * radius_m + 1.0
    points = shapely.points(xy[:, 0] - low[0] + rank * width, xy[:, 1] - low[1])
    me, other = shapely.STRtree(points).query(points[select], predicate="dwithin", distance=radius_m)
    gap = _length(xy[other] - xy[select[me]])
    kept = (select[me] != other) & (group[select[me]] == group[other]) & (gap <= radius_m)
    return me[kept], other[kept], gap[kept]


def to_agent(vector: Float, heading: Float) -> Float:
    """(..., 2) map axes -> the frame of an agent with this heading (...,)."""
    return rotate(vector, -heading)


def to_map(vector: Float, heading: Float) -> Float:
    """(..., 2) in the frame of an agent with this heading (...,) -> map axes."""
    return rotate(vector, heading)
