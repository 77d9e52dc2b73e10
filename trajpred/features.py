"""What happened to a track since its last observation, in the track's own frame.

`advance` is the only place where step features are made: the live predictor calls it once per
perception tick, training and offline evaluation fold it over a history. Every feature is relative to
the track's own previous pose, so a recurrent state stays valid from tick to tick, and whole histories
and single steps give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trajpred.config import NS_PER_S
from trajpred.geometry import rotate, wrap_angle
from trajpred.types import Bool, Float, Float32, Int

Complex = NDArray[np.complex128]

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
_FEW = 64
"""Up to so many agents, all pairs are looked at: faster than a grid."""
_CELLS = 2**20
"""The most cells along one axis of the grid in which neighbours are sought; their numbers fit in 64 bits."""


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

    @classmethod
    def row_types(cls) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Field -> type and shape of one track's part of it."""
        columns = {f.name: getattr(cls.empty(0), f.name) for f in fields(cls)}
        return {name: (column.dtype, column.shape[1:]) for name, column in columns.items()}

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

    heading, facing, towed, oriented = _tow(before, seen)
    turn = np.where(before.oriented, heading - before.heading, 0.0)
    after = Motion(
        stamp_ns=np.zeros_like(before.stamp_ns) + seen.stamp_ns,
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
    back = facing.conj()
    own, tracker = as_complex(velocity) * back, as_complex(seen.velocity) * back * seen.velocity_valid
    features = _side_by_side(
        (
            own.real,
            own.imag,
            np.sin(turn),
            np.cos(turn) * before.oriented,
            after.interval_s,
            moved,
            before.oriented,
            tracker.real,
            tracker.imag,
            seen.velocity_valid,
            seen.yaw_valid,
        )
    )
    return after, features


def _side_by_side(columns: Sequence[NDArray[Any]]) -> Float32:
    """C arrays (N,) -> (N, C); np.stack would take three times as long for a few agents."""
    table = np.empty((len(columns[0]), len(columns)), np.float32)
    for i, column in enumerate(columns):
        table[:, i] = column
    return table


def _tow(before: Motion, seen: Observation) -> tuple[Float, Complex, Float, Bool]:
    """The new heading (N,) rad and as a unit vector, the towed point (N, 2), and where there is one.

    The agent draws a point behind it on a drawbar of TOW_M, as a car draws a trailer; the heading is the
    drawbar's. It follows a turn within that distance at any rate of observations, and what moves less
    than the drawbar gives does not turn it. A first direction is taken from any displacement, else from
    the tracker's velocity; the tracker's yaw is taken as it is.
    """
    # A new track is its own towed point.
    towed = np.where((before.count > 0)[:, None], before.towed, seen.xy)
    drawbar = seen.xy - towed
    reach = _length(drawbar)
    pulled = reach > np.where(before.oriented, TOW_M, _STILL_MPS)
    hinted = ~before.oriented & ~pulled & seen.velocity_valid & (_length(seen.velocity) > _STILL_MPS)
    direction = np.where(hinted[:, None], seen.velocity, drawbar)
    heading = np.where(pulled | hinted, np.arctan2(direction[:, 1], direction[:, 0]), before.heading)
    heading = np.where(seen.yaw_valid, wrap_angle(seen.yaw), heading)
    turned = pulled | hinted | seen.yaw_valid
    facing = np.exp(1j * heading)
    # A short first displacement keeps its start.
    taut = turned & ((reach > TOW_M) | ~pulled | seen.yaw_valid)
    towed = np.where(taut[:, None], seen.xy - TOW_M * as_vector(facing), towed)
    return heading, facing, towed, before.oriented | turned


def _turn_rate(before: Motion, velocity: Float, elapsed: Float) -> Float:
    """(N,) rad/s between the middles of the last two displacements; 0 where there are not two."""
    now, last = as_complex(velocity), as_complex(before.velocity)
    turning = (before.count > 1) & (np.abs(now) > _STILL_MPS) & (np.abs(last) > _STILL_MPS)
    turn = now * last.conj()
    return np.where(turning, np.arctan2(turn.imag, turn.real) / (0.5 * (elapsed + before.interval_s)), 0.0)


def _capped(velocity: Float) -> Float:
    """(N, 2) m/s, no faster than SPEED_MAX_MPS; finite whatever comes in."""
    velocity = np.minimum(np.maximum(velocity, -1e100), 1e100)
    return velocity * np.minimum(1.0, SPEED_MAX_MPS / np.maximum(_length(velocity), 1.0))[:, None]


def _length(vectors: Float) -> Float:
    """(N, 2) -> (N,)."""
    length: Float = np.abs(as_complex(vectors))
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
    place, velocity, facing = as_complex(motion.xy), as_complex(motion.velocity), np.exp(1j * motion.heading)
    me, other, gap = _pairs(place, group, select, radius_m)
    # One row per agent, so that each is sorted by itself: equal gaps stay in order of `other`.
    found = np.bincount(me, minlength=m)
    start = found.cumsum() - found
    gaps = np.full((m, found.max()), np.inf)
    gaps[me, np.arange(len(me)) - start[me]] = gap
    nearest = gaps.argsort(axis=1, kind="stable")[:, :count]
    me, rank = (np.arange(nearest.shape[1]) < found[:, None]).nonzero()
    pair = start[me] + nearest[me, rank]
    other, gap = other[pair], gap[pair]
    rows[me, rank] = other
    mask[me, rank] = True
    mine = select[me]
    to_me = facing[mine].conj()
    ahead, turn = (place[other] - place[mine]) * to_me, facing[other] * to_me
    drift = (velocity[other] - velocity[mine]) * to_me
    parts = (ahead.real, ahead.imag, drift.real, drift.imag, turn.imag, turn.real, 1.0 / (1.0 + gap))
    relation[me, rank] = _side_by_side(parts)
    return Neighbours(rows, mask, relation)


def _pairs(place: Complex, group: Int, select: Int, radius_m: float) -> tuple[Int, Int, Float]:
    """All (row of select, other agent, distance) within the radius and the group, in this order."""
    if len(place) <= _FEW:
        gap = np.abs(place[select, None] - place)
        near = gap <= radius_m
        near[np.arange(len(select)), select] = False
        if group.min() < group.max():
            near &= group[select, None] == group
        me, other = near.nonzero()
        return me, other, gap[me, other]
    # A grid: a cell is no smaller than the radius, so that all who are near lie in the nine cells around.
    x, y = place.real - place.real.min(), place.imag - place.imag.min()
    size = max(radius_m * (1 + 1e-9), x.max() / _CELLS, y.max() / _CELLS, 1e-9)
    # Empty cells between columns and between groups: no column or group touches the next.
    _, column = np.unique(group, return_inverse=True)
    column = column * (_CELLS + 3) + (x / size).astype(np.int64)
    cell = column * (_CELLS + 3) + (y / size).astype(np.int64)
    order = np.argsort(cell, kind="stable")
    ranked = cell[order]
    # Three columns, and in each of them three cells in a row.
    below = (cell[select, None] + (_CELLS + 3) * np.arange(-1, 2) - 1).ravel()
    first = np.searchsorted(ranked, below)
    count = np.searchsorted(ranked, below + 3) - first
    run = np.repeat(np.arange(len(first)), count)
    me = run // 3
    other = order[np.arange(len(run)) + (first + count - count.cumsum())[run]]
    mine = select[me]
    kept = (np.abs(place[other] - place[mine]) <= radius_m) & (mine != other)
    pair = np.sort(me[kept] * len(place) + other[kept])
    me, other = np.divmod(pair, len(place))
    return me, other, np.abs(place[other] - place[select[me]])


def as_complex(vector: NDArray[np.floating[Any]]) -> Complex:
    """(..., 2) -> (...) complex, so that a product with exp(1j * angle) is a turn."""
    whole: Complex = np.ascontiguousarray(vector, np.float64).view(np.complex128)[..., 0]
    return whole


def as_vector(whole: Complex) -> Float:
    """(...) complex -> (..., 2)."""
    return np.ascontiguousarray(whole)[..., None].view(np.float64)


def to_agent(vector: Float, heading: Float) -> Float:
    """(..., 2) map axes -> the frame of an agent with this heading (...,)."""
    return rotate(vector, -heading)


def to_map(vector: Float, heading: Float) -> Float:
    """(..., 2) in the frame of an agent with this heading (...,) -> map axes."""
    return rotate(vector, heading)
