"""How pedestrians move: the social force model (Helbing and Molnar, 1995) between the points of a way.

Each is drawn to the next point of its way at its own speed, and pushed away by whoever comes close and by
vehicles. At a kerb it waits for green, or for a gap that it finds long enough. Some stop, some turn back,
some run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_tools.simulate.drive import Rows
from trajpred.compiled import compiled
from trajpred.types import Bool, Float, Int

GO, GAP = -1, -2
"""At a point of a way: walk on; wait for a gap. Anything else is the signal group to wait for."""

WALKER = np.dtype(
    [
        ("number", "i8"),
        ("way", "i8"),
        ("next", "i8"),  # the point of the way that it walks to
        ("back", "?"),  # from the last point to the first
        *(
            (name, "f8")
            for name in (
                *("x", "y", "vx", "vy", "yaw", "length", "width", "height"),
                *("cruise", "relax", "shy", "aside", "stray", "wander", "patience", "nerve"),
                # a stop or an about-turn planned in so many s; how long it stands; standing at a kerb since
                *("stop_in", "turn_in", "stands_for", "waited"),
            )
        ),
    ]
)
ACCELERATION_MAX_MPS2 = 3.5
SPEED_MAX_MPS = 4.5
TURN_MAX_RPS = 4.0
REACH_M = 0.8
"""A point of the way counts as reached so near."""


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """A way on foot, in both directions: points (P, 2) m; wait (P,), what for at each before going on."""

    points: Float
    wait: tuple[int, ...]
    width_m: float
    per_hour: float


def draw(count: int, rng: Generator) -> NDArray[np.void]:
    """(count,) WALKER rows, standing at the origin."""
    walkers = np.zeros(count, WALKER)
    runs = rng.random(count) < 0.06
    walkers["cruise"] = np.where(
        runs, rng.uniform(2.2, 3.6, count), np.clip(rng.normal(1.25, 0.3, count), 0.4, 2.0)
    )
    for field, low, high in (
        ("length", 0.3, 0.6),
        ("width", 0.4, 0.7),
        ("height", 1.5, 1.9),
        ("relax", 0.3, 0.8),
        ("shy", 0.5, 1.6),
        ("wander", 0.05, 0.3),
        ("patience", 5.0, 40.0),
        ("nerve", 2.0, 5.0),
    ):
        walkers[field] = rng.uniform(low, high, count)
    walkers["stop_in"] = np.where(rng.random(count) < 0.25, rng.uniform(2.0, 60.0, count), np.inf)
    walkers["turn_in"] = np.where(rng.random(count) < 0.06, rng.uniform(5.0, 60.0, count), np.inf)
    return walkers


@compiled
def step(
    walkers: Rows, boxes: Rows, points: Float, wait: Int, count: Int, green: Bool, noise: Float, dt: float
) -> None:
    """All pedestrians, dt s on. boxes: those on wheels and what stands, but no pedestrians.

    points (W, P, 2) m, wait (W, P) and count (W,) the ways, padded; noise (N, 3) standard normal.
    """
    n = len(walkers)
    for i in range(n):
        me = walkers[i]
        kept = math.exp(-dt / 2.5)
        me.stray = kept * me.stray + math.sqrt(1.0 - kept * kept) * me.wander * noise[i, 0]
        me.stop_in -= dt
        me.turn_in -= dt
        if me.stop_in <= 0.0:
            me.stop_in, me.stands_for = math.inf, 1.5 + 6.0 * abs(noise[i, 1])
        if me.turn_in <= 0.0:
            me.turn_in, me.back = math.inf, not me.back
            me.next += -1 if me.back else 1
            me.next = min(max(me.next, 0), count[me.way] - 1)
        me.stands_for = max(me.stands_for - dt, 0.0)
        at = points[me.way, me.next]
        before = me.next + 1 if me.back else me.next - 1
        before = min(max(before, 0), count[me.way] - 1)
        wx, wy = at[0] - points[me.way, before, 0], at[1] - points[me.way, before, 1]
        along = max(math.hypot(wx, wy), 1e-6)
        # Each keeps to its own side of the way.
        tx, ty = at[0] - me.aside * wy / along, at[1] + me.aside * wx / along
        dx, dy = tx - me.x, ty - me.y
        away = math.hypot(dx, dy)
        passed = (me.x - tx) * wx / along + (me.y - ty) * wy / along > 0.0
        rule = wait[me.way, me.next]
        stands = me.stands_for > 0.0
        if away < REACH_M or passed:
            nxt = me.next - 1 if me.back else me.next + 1
            free = rule == GO or nxt < 0 or nxt >= count[me.way]
            if not free:
                ahead = points[me.way, nxt]
                crosses = wait[me.way, nxt] == rule  # between two points that wait for the same lies a road
                if not crosses:
                    free = True
                elif rule >= 0:
                    free = green[rule] or (
                        me.waited > me.patience and _clear(boxes, at, ahead, me.cruise, 5.0)
                    )
                else:
                    free = _clear(boxes, at, ahead, me.cruise, me.nerve if me.waited < me.patience else 1.0)
            if free:
                me.next, me.waited = nxt, 0.0
                if 0 <= nxt < count[me.way]:
                    tx, ty = points[me.way, nxt, 0], points[me.way, nxt, 1]
                    dx, dy = tx - me.x, ty - me.y
                    away = math.hypot(dx, dy)
            else:
                me.waited += dt
                stands = True
        pace = 0.0 if stands else me.cruise
        turn = 0.5 * me.stray
        ux, uy = dx / max(away, 1e-6), dy / max(away, 1e-6)
        ux, uy = ux - turn * uy, uy + turn * ux
        fx, fy = (pace * ux - me.vx) / me.relax, (pace * uy - me.vy) / me.relax
        for j in range(n):
            if j != i:
                push = _push(me, walkers[j].x, walkers[j].y, walkers[j].vx, walkers[j].vy, 0.55, 0.35)
                fx, fy = fx + me.shy * push[0], fy + me.shy * push[1]
        for j in range(len(boxes)):
            b = boxes[j]
            ox, oy = me.x - b.x, me.y - b.y
            if ox * ox + oy * oy > 150.0:
                continue
            c, s = math.cos(b.yaw), math.sin(b.yaw)
            lx, ly = ox * c + oy * s, oy * c - ox * s  # in the frame of the box
            nx, ny = (
                min(max(lx, -0.5 * b.length), 0.5 * b.length),
                min(max(ly, -0.5 * b.width), 0.5 * b.width),
            )
            push = _push(me, b.x + nx * c - ny * s, b.y + nx * s + ny * c, b.vx, b.vy, 0.45, 0.5)
            fx, fy = fx + 2.0 * push[0], fy + 2.0 * push[1]
        if stands and math.hypot(fx, fy) < 0.6 and math.hypot(me.vx, me.vy) < 0.2:
            me.vx, me.vy = 0.0, 0.0
            continue
        force = math.hypot(fx, fy)
        if force > ACCELERATION_MAX_MPS2:
            fx, fy = fx * ACCELERATION_MAX_MPS2 / force, fy * ACCELERATION_MAX_MPS2 / force
        me.vx, me.vy = me.vx + fx * dt, me.vy + fy * dt
        speed = math.hypot(me.vx, me.vy)
        most = min(SPEED_MAX_MPS, 1.3 * me.cruise)
        if speed > most:
            me.vx, me.vy = me.vx * most / speed, me.vy * most / speed
        me.x, me.y = me.x + me.vx * dt, me.y + me.vy * dt
        if speed > 0.2:
            turn = math.atan2(me.vy, me.vx) - me.yaw
            turn = math.atan2(math.sin(turn), math.cos(turn))
            me.yaw += min(max(turn, -TURN_MAX_RPS * dt), TURN_MAX_RPS * dt)


@compiled
def _push(
    me: Any, x: float, y: float, vx: float, vy: float, radius: float, decay: float
) -> tuple[float, float]:
    """The force from a point that moves, m/s2: the nearer the stronger, felt where both will be in 0.6 s."""
    rx, ry = me.x - x + 0.6 * (me.vx - vx), me.y - y + 0.6 * (me.vy - vy)
    soon = math.hypot(rx, ry)
    ox, oy = me.x - x, me.y - y
    now = math.hypot(ox, oy)
    if min(now, soon) > 4.0 or now < 1e-6:
        return 0.0, 0.0
    strength = 2.0 * math.exp((radius - 0.5 * (now + soon)) / decay)
    sight = 0.65 - 0.35 * (me.vx * ox + me.vy * oy) / (now * max(math.hypot(me.vx, me.vy), 0.3))
    rx, ry = (rx + ox) / max(soon + now, 1e-6), (ry + oy) / max(soon + now, 1e-6)
    return sight * strength * rx, sight * strength * ry


@compiled
def _clear(boxes: Rows, start: Float, end: Float, speed: float, gap_s: float) -> bool:
    """Whether nobody on wheels comes to the stretch from start to end while it is crossed, or in gap_s s."""
    mx, my = 0.5 * (start[0] + end[0]), 0.5 * (start[1] + end[1])
    half = 0.5 * math.hypot(end[0] - start[0], end[1] - start[1])
    within = min(gap_s, 2.0 * half / speed)
    for j in range(len(boxes)):
        b = boxes[j]
        pace = math.hypot(b.vx, b.vy)
        if pace < 0.5:
            continue
        ox, oy = mx - b.x, my - b.y
        ahead = (ox * b.vx + oy * b.vy) / pace
        beside = abs(ox * b.vy - oy * b.vx) / pace
        if beside < half + 1.0 and -3.0 < ahead < pace * within + 3.0:
            return False
    return True
