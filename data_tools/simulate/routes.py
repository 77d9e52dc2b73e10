"""Where wheels may go: routes as lines with a speed for every metre, and where two of them meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from data_tools.simulate.kinds import WHEELS
from trajpred.compiled import compiled
from trajpred.types import Bool, Float, Int

SPACING_M = 1.0
NEAR_M = 2.0
"""Routes closer than this are in each other's way."""
CLEAR_M = 1.3
"""So far before another's way one waits, so that the nose is out of it."""
NO_SIGNAL = -1


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One way through the world for one kind of vehicle.

    line (P, 2) m, any spacing; limit_mps: how fast one may go; left_m, right_m: how far to either side of the
    line there is room for passing; stops_m: stop lines along it, each with the signal group that it obeys, or
    NO_SIGNAL where one only gives way; rank: the higher goes first where routes cross; circulates: a
    roundabout's circle from and to where along it.
    """

    name: str
    kind: str
    line: Float
    limit_mps: float
    per_hour: float
    left_m: float = 0.3
    right_m: float = 0.3
    stops_m: tuple[tuple[float, int], ...] = ()
    rank: float = 0.0
    circulates: tuple[float, float] = (math.inf, math.inf)
    next_lane_m: float = 0.0
    """The lane beside it in the same direction, m to the left; 0 if there is none."""
    parked: bool = False
    """Whether it begins with a parked car that pulls out: at a standstill, and always at its start."""


class Network(NamedTuple):
    """All routes as arrays, padded: R routes of at most P points, SPACING_M apart.

    xy (R, P, 2) m; yaw (R, P) rad; curvature (R, P) 1/m; length (R,) m; left, right (R,) m of room; next_lane
    (R,) m to the left, 0 if there is none; stop (R, 2) m, inf where there is none, and its signal (R, 2);
    meet_in, meet_out (R, R) m: on route a from where to where it is near route b, NaN where never; wait_at
    (R, R) m: on route a, before where one waits for b; gives_way (R, R): whether a lets b go first there.
    """

    xy: Float
    yaw: Float
    curvature: Float
    length: Float
    limit: Float
    left: Float
    right: Float
    next_lane: Float
    stop: Float
    signal: Int
    meet_in: Float
    meet_out: Float
    wait_at: Float
    gives_way: Bool


def resampled(line: ArrayLike, spacing_m: float = SPACING_M) -> Float:
    """(P, 2) m -> (Q, 2) m: points spacing_m apart along the same line."""
    line = np.asarray(line, np.float64)
    along = np.append(0.0, np.cumsum(np.hypot(*np.diff(line, axis=0).T)))
    wanted = np.arange(0.0, along[-1], spacing_m)
    return np.stack([np.interp(wanted, along, column) for column in line.T], axis=1)


def beside(line: Float, left_m: ArrayLike) -> Float:
    """(P, 2) m -> (P, 2) m: the line moved to its left, by one distance or (P,)."""
    way = np.gradient(line, axis=0)
    way /= np.hypot(*way.T)[:, None]
    moved: Float = line + np.asarray(left_m)[..., None] * np.stack([-way[:, 1], way[:, 0]], axis=1)
    return moved


def joined(before: Float, after: Float, handle: float = 0.39) -> Float:
    """Two lines as one, with a curve (a cubic of Bezier) from the end of one to the start of the other.

    handle: how far the curve leaves along either line, as a share of the distance; 0.39 makes a right
    angle nearly an arc.
    """
    start, end = before[-1], after[0]
    out, into = before[-1] - before[-2], after[1] - after[0]
    reach = handle * np.hypot(*(end - start))
    control = np.stack(
        [start, start + reach * out / np.hypot(*out), end - reach * into / np.hypot(*into), end]
    )
    t = np.linspace(0.0, 1.0, max(4, int(np.hypot(*(end - start)) / 0.5)))[:, None]
    curve = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]) @ control
    return np.concatenate([before, curve[1:-1], after])


def network(routes: tuple[Route, ...]) -> Network:
    """The routes as arrays, with their crossings."""
    lines = [resampled(route.line) for route in routes]
    count, longest = len(routes), max(map(len, lines))
    xy, yaw, curvature = np.zeros((count, longest, 2)), np.zeros((count, longest)), np.zeros((count, longest))
    for r, line in enumerate(lines):
        way = np.unwrap(np.arctan2(*np.gradient(line, axis=0).T[::-1]))
        bend = np.convolve(np.pad(np.gradient(way, SPACING_M), 2, "edge"), np.ones(5) / 5, "valid")
        for array, values in ((xy, line), (yaw, way), (curvature, bend)):
            array[r, : len(line)], array[r, len(line) :] = values, values[-1]
    stop, signal = np.full((count, 2), np.inf), np.full((count, 2), NO_SIGNAL)
    for r, route in enumerate(routes):
        for i, (at, group) in enumerate(route.stops_m):
            stop[r, i], signal[r, i] = at, group
    length = np.array([len(line) - 1.0 for line in lines]) * SPACING_M
    meet_in, meet_out = np.full((count, count), np.nan), np.full((count, count), np.nan)
    _meetings(xy, yaw, length, meet_in, meet_out)
    return Network(
        xy=xy,
        yaw=yaw,
        curvature=curvature,
        length=length,
        limit=np.array([route.limit_mps for route in routes]),
        left=np.array([route.left_m for route in routes]),
        right=np.array([route.right_m for route in routes]),
        next_lane=np.array([route.next_lane_m for route in routes]),
        stop=stop,
        signal=signal,
        meet_in=meet_in,
        meet_out=meet_out,
        wait_at=_waiting(routes, meet_in, meet_out),
        gives_way=_precedence(routes, yaw, meet_in),
    )


@compiled
def _meetings(xy: Float, yaw: Float, length: Float, meet_in: Float, meet_out: Float) -> None:
    """Fills in where each route is near another one, the first time after it was not.

    Where two become one, they meet up to there: from then on one is ahead of the other.
    """
    for a in range(len(xy)):
        for b in range(len(xy)):
            if a == b:
                continue
            apart = False
            for i in range(int(length[a]) + 1):
                nearest, at = math.inf, 0
                for j in range(int(length[b]) + 1):
                    dx, dy = xy[a, i, 0] - xy[b, j, 0], xy[a, i, 1] - xy[b, j, 1]
                    away = dx * dx + dy * dy
                    if away < nearest:
                        nearest, at = away, j
                near = nearest < NEAR_M * NEAR_M
                if near and apart and math.isnan(meet_in[a, b]):
                    meet_in[a, b] = i * SPACING_M
                if near and not math.isnan(meet_in[a, b]):
                    meet_out[a, b] = i * SPACING_M
                alike = nearest < 1.0 and math.cos(yaw[a, i] - yaw[b, at]) > 0.97
                if not near or alike:
                    if not math.isnan(meet_in[a, b]):
                        break
                    apart = apart or not near


def _waiting(routes: tuple[Route, ...], meet_in: Float, meet_out: Float) -> Float:
    """(R, R) m on route a, before where one waits for b: not in the way of those who go at the same time.

    It is the beginning of what is crossed at one go: of all meetings without room between them for whoever
    is longest.
    """

    def group(route: Route, at: float) -> int:
        passed = [signal for stop, signal in route.stops_m if stop <= at]
        return passed[-1] if passed else NO_SIGNAL

    wait_at = meet_in.copy()
    for a, route in enumerate(routes):
        length = WHEELS[route.kind].size_m[0][1] + CLEAR_M
        met = np.flatnonzero(~np.isnan(meet_in[a]) & ~np.isnan(meet_in[:, a]))
        met = met[np.argsort(meet_in[a, met])]
        groups = {b: (group(route, meet_in[a, b]), group(routes[b], meet_in[b, a])) for b in met.tolist()}
        free = [b for b, (mine, theirs) in groups.items() if mine == theirs or NO_SIGNAL in (mine, theirs)]
        begins = ends = -math.inf
        for b in free:  # in the order of their beginnings
            if meet_in[a, b] - length > ends:
                lines = [stop + CLEAR_M for stop, _ in route.stops_m if ends < stop < meet_in[a, b]]
                begins = max(lines, default=meet_in[a, b])
            ends = max(ends, meet_out[a, b])
            wait_at[a, b] = begins
    return wait_at


def _precedence(routes: tuple[Route, ...], yaw: Float, meet_in: Float) -> Bool:
    """(R, R) whether route a lets b go first: into a circle; the lower rank; the one from the left."""
    gives_way = np.zeros(meet_in.shape, bool)
    for a, b in zip(*np.nonzero(~np.isnan(meet_in) & ~np.isnan(meet_in.T)), strict=True):
        mine, other = meet_in[a, b], meet_in[b, a]

        def enters(route: Route, at: float) -> bool:
            return abs(at - route.circulates[0]) < 8.0

        def inside(route: Route, at: float) -> bool:
            return route.circulates[0] + 8.0 <= at <= route.circulates[1]

        if enters(routes[a], mine) and inside(routes[b], other):
            gives_way[a, b] = True
        elif inside(routes[a], mine) and enters(routes[b], other):
            continue
        elif routes[a].rank != routes[b].rank:
            gives_way[a, b] = routes[a].rank < routes[b].rank
        else:
            turn = math.sin(yaw[b, int(other)] - yaw[a, int(mine)])
            gives_way[a, b] = turn > 0.17  # b comes from the right
    return gives_way
