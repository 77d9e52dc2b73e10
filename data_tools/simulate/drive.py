"""How those on wheels move: along a route, behind each other, giving way, within their limits.

Longitudinal: the intelligent driver model (Treiber, Hennecke and Helbing, 2000), towards the one ahead, a
stop line or a crossing that has to be left free. Lateral: pure pursuit (Coulter, 1992) of a point ahead on
the line that is followed, by a vehicle that moves where its rear wheels point (kinematic bicycle): nobody
moves sideways or turns on the spot.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_tools.simulate.kinds import LATERAL_MAX_MPS2
from data_tools.simulate.routes import CLEAR_M, SPACING_M, Network
from trajpred.compiled import compiled
from trajpred.types import Bool, Float, Int

Rows = NDArray[np.void]

BOX = np.dtype([(name, "f8") for name in ("x", "y", "vx", "vy", "yaw", "length", "width", "along_speed")])
"""What anyone sees of the others: centre m, velocity m/s, heading rad, size m."""

OTHER = np.dtype([(name, "f8") for name in ("along", "aside", "speed", "half", "reach")] + [("row", "i8")])
"""Another, seen from a route: m along it and to its left, m/s along it, half its width and length there."""

SIGHT_M, SIGHT_S = 18.0, 5.0
"""How far ahead one looks: so many metres, and as far as one comes in so many seconds."""
BEHIND_M = 20.0
"""How far behind one looks before changing the line, if one looks at all ..."""
CARELESS = 0.9
"""... which those do not who take smaller gaps than this, s."""
JERK_MPS3 = 3.0
BEND_RATE_PER_M_S = 0.35
"""How fast one steers, 1/m per s."""
PATIENCE_S = 12.0
"""After waiting for so long one squeezes into smaller gaps."""
SLOW_MPS = 1.5
"""Behind anyone slower one does not enter a crossing without room beyond it."""


@compiled
def locate(agents: Rows, xy: Float, length: Float) -> None:
    """Where each is along its route and how far to the left of it: near where it was last."""
    for i in range(len(agents)):
        me = agents[i]
        line = xy[me.route]
        last = int(length[me.route])
        first = max(int(me.along / SPACING_M) - 2, 0)
        best = math.inf
        for p in range(first, min(first + 7, last)):
            dx, dy = line[p + 1, 0] - line[p, 0], line[p + 1, 1] - line[p, 1]
            span = math.sqrt(dx * dx + dy * dy)
            dx, dy = dx / span, dy / span
            ox, oy = me.x - line[p, 0], me.y - line[p, 1]
            on = min(max(ox * dx + oy * dy, 0.0 if p else -math.inf), span if p < last - 1 else math.inf)
            away = (ox - on * dx) ** 2 + (oy - on * dy) ** 2
            if away < best:
                best = away
                me.along = (p + on / span) * SPACING_M
                me.aside = dx * oy - dy * ox


@compiled
def _point(line: Float, yaw: Float, last: float, along: float, aside: float) -> tuple[float, float, float]:
    """x, y, yaw at `along` m of a route, `aside` m to its left; straight on beyond its end."""
    p = min(max(int(along / SPACING_M), 0), int(last / SPACING_M))
    way = yaw[p]
    rest = along - p * SPACING_M
    x = line[p, 0] + rest * math.cos(way) - aside * math.sin(way)
    y = line[p, 1] + rest * math.sin(way) + aside * math.cos(way)
    return x, y, way


@compiled
def _on_route(
    line: Float, yaw: Float, last: float, start: float, sight: float, x: float, y: float
) -> tuple[float, float, float]:
    """Where a point is beside `sight` m of route from `start`: along, aside (inf: far away), yaw there."""
    best, at = math.inf, 0
    first, end = max(int(start - BEHIND_M) - 8, 0), min(int(start + sight), int(last))
    for p in range(first, end + 1):
        away = (x - line[p, 0]) ** 2 + (y - line[p, 1]) ** 2
        if away < best:
            best, at = away, p
    if best > 64.0:
        return 0.0, math.inf, 0.0
    way = yaw[at]
    dx, dy = x - line[at, 0], y - line[at, 1]
    return at + dx * math.cos(way) + dy * math.sin(way), dy * math.cos(way) - dx * math.sin(way), way


@compiled
def look(
    agents: Rows, boxes: Rows, net: Network, gap: Float, ahead_speed: Float, ahead: Int, wish: Float
) -> None:
    """What is in the way of each, and how to get round it.

    gap (N,) m to what is ahead, its speed m/s and its row among the boxes: inf, 0, -1 if nothing. wish (N,):
    m to the left of the route, where somebody slow can be passed; 0 where there is nobody slow, or no room.
    agents are the first of the boxes.
    """
    others = np.zeros(len(boxes), OTHER)
    for i in range(len(agents)):
        me = agents[i]
        seen = _survey(me, i, boxes, net, others)
        gap[i], ahead_speed[i], ahead[i], wish[i] = math.inf, 0.0, -1, 0.0
        # Who has waited for long comes closer, in the end very close.
        margin = 0.25 + 0.03 * me.speed - 0.75 * min(max(me.waited - 3.0, 0.0) / 5.0, 1.0)
        front, mine = me.along + me.axle + 0.5 * me.length, 0.5 * me.width
        # Where I would rather be: seen from there somebody slow is in my way even while I pass.
        rather = me.home + me.shift_by * (me.shift_at <= me.along < me.shift_at + me.shift_for)
        begins = me.shift_at <= me.along and abs(me.line - rather) > 0.6 * abs(me.shift_by) > 0.0
        if begins and me.nerve > CARELESS and _taken(me, others[:seen], -1, rather, front, margin, 8.0):
            me.shift_at = me.along + 3.0  # over the shoulder somebody was seen: later
        slow, slow_at = -1, 6.0 + 2.5 * me.speed
        for j in range(seen):
            other = others[j]
            distance = other.along - other.reach - front
            free = min(abs(other.aside - me.line), abs(other.aside - me.aside) + 0.3) - other.half - mine
            inside = free < (margin if distance > 0.0 else min(margin, 0.0))
            if inside and -0.5 * me.length < distance < gap[i]:
                gap[i], ahead_speed[i], ahead[i] = distance, other.speed, other.row
            inside = abs(other.aside - rather) - other.half - mine < margin
            if inside and other.speed < 0.6 * me.cruise and -me.length - other.reach < distance < slow_at:
                slow, slow_at = j, distance
        # Behind somebody not slow enough to be passed the next lane is taken for good, if it is free and
        # nobody there has to brake: after MOBIL (Kesting, Treiber and Helbing, 2007).
        held_up = gap[i] < slow_at and ahead_speed[i] < 0.8 * min(me.cruise, net.limit[me.route])
        if held_up and net.next_lane[me.route] != 0.0 and me.shift_at == math.inf:
            there = me.home + net.next_lane[me.route]
            if not _taken(me, others[:seen], -1, there, front, margin, gap[i] + 15.0):
                me.shift_at, me.shift_for, me.shift_by = me.along, math.inf, net.next_lane[me.route]
        if slow >= 0:
            wish[i] = _way_round(
                me, others[:seen], slow, front, margin, net.left[me.route], net.right[me.route]
            )


@compiled
def _survey(me: Any, i: int, boxes: Rows, net: Network, others: Rows) -> int:
    """Fills in all others beside the stretch of route ahead, from just behind; returns how many."""
    line, yaw, last = net.xy[me.route], net.yaw[me.route], net.length[me.route]
    sight = SIGHT_M + SIGHT_S * me.speed
    front = me.along + me.axle + 0.5 * me.length
    seen = 0
    for j in range(len(boxes)):
        box = boxes[j]
        if j == i or (box.x - boxes[i].x) ** 2 + (box.y - boxes[i].y) ** 2 > (sight + 8.0) ** 2:
            continue
        along, aside, way = _on_route(line, yaw, last, me.along, sight, box.x, box.y)
        if aside == math.inf:
            continue
        turn = box.yaw - way
        cosine, sine = abs(math.cos(turn)), abs(math.sin(turn))
        speed = box.vx * math.cos(way) + box.vy * math.sin(way)
        across = box.vy * math.cos(way) - box.vx * math.sin(way)
        # Who moves across is where it will be when I come there, but at most a second and a half on.
        soon = min(1.5, max(along - front, 0.0) / max(me.speed, 1.0))
        if abs(across) > 0.5 * abs(speed):
            aside += soon * across
        reach = 0.5 * (box.length * cosine + box.width * sine)
        if along + reach < front - me.length - BEHIND_M:
            continue
        other = others[seen]
        other.along, other.aside, other.speed, other.row = along, aside, speed, j
        other.half, other.reach = 0.5 * (box.length * sine + box.width * cosine), reach
        seen += 1
    return seen


@compiled
def _way_round(
    me: Any, others: Rows, slow: int, front: float, margin: float, left_m: float, right_m: float
) -> float:
    """Where the slow one can be passed, m to the left of the route, on the nearer side; 0: no room."""
    mine, it = 0.5 * me.width, others[slow]
    clear = it.half + mine + margin + 0.15 + 0.04 * me.speed
    found = 0.0
    for side in range(2):
        # Round who stands by the left if that is as near; who comes towards me is met by the right.
        left = (side == 0) == (it.speed > -0.3)
        option = it.aside + clear if left else it.aside - clear
        room = -right_m <= option <= left_m
        beyond_m = it.along - front + it.reach + 8.0
        taken = not room or _taken(me, others, slow, option, front, margin, beyond_m)
        if not taken and (found == 0.0 or abs(option - me.line) + 0.3 < abs(found - me.line)):
            found = option
    return found


@compiled
def _taken(
    me: Any, others: Rows, but: int, option: float, front: float, margin: float, beyond_m: float
) -> bool:
    """Whether anybody but one is, or soon comes, where the line `option` m to the left would take me."""
    for j in range(len(others)):
        other = others[j]
        if j == but or abs(other.aside - option) > other.half + 0.5 * me.width + margin:
            continue
        far = other.along - front
        if other.speed < -0.5:  # it comes towards me
            if -2.0 < far < 5.0 * (me.speed - other.speed) + 10.0:
                return True
        elif -me.length - 2.0 - other.reach - 2.0 * max(other.speed - me.speed, 0.0) < far < beyond_m:
            return True
    return False


@compiled
def hold(
    agents: Rows,
    net: Network,
    green: Bool,
    gap: Float,
    ahead: Int,
    line_gap: Float,
    crossing: Float,
    first: Int,
) -> None:
    """How far each may go.

    line_gap (N,) m to a stop line at red, crossing (N,) m to a crossing to be left free; else inf. first
    (N,): the row of the one who is waited for there, -1 if nobody. green (G,): which signal groups may go;
    gap and ahead as `look` finds them.
    """
    for i in range(len(agents)):
        me = agents[i]
        front = me.along + me.axle + 0.5 * me.length
        line_gap[i], crossing[i], first[i] = math.inf, math.inf, -1
        # The way that it takes to stop, m: who cannot any more goes on.
        needs = 0.5 * me.speed**2 / min(1.6 * me.brake, me.brake_max) - 0.5
        for k in range(2):
            to_line, group = net.stop[me.route, k] - front, net.signal[me.route, k]
            if group >= 0 and not green[group] and to_line > max(needs, -1.0):
                line_gap[i] = min(line_gap[i], to_line + 0.5)
        # Behind one who stands there is room up to here.
        queue = 0 <= ahead[i] < len(agents) and agents[ahead[i]].speed < SLOW_MPS
        room = front + gap[i] - me.gap if queue else math.inf
        for j in range(len(agents)):
            other = agents[j]
            leave, their_out = net.meet_out[me.route, other.route], net.meet_out[other.route, me.route]
            # Comparisons with NaN are false: routes that never meet end here.
            if j == i or not (leave > me.along and their_out > other.along - 0.5 * other.length):
                continue
            to_it = net.meet_in[me.route, other.route] - CLEAR_M - front
            to_wait = net.wait_at[me.route, other.route] - CLEAR_M - front
            to_theirs = net.meet_in[other.route, me.route] - other.along - other.axle - 0.5 * other.length
            if to_it < -1.0 or to_wait > 40.0 or to_theirs > 60.0:
                continue
            begun = to_wait < max(needs, -1.0)
            to_stop = to_it if begun else to_wait
            if not needs < to_stop < crossing[i] or _at_red(other, net, green, to_theirs):
                continue
            # Nobody goes in who would come to stand there, or before those who go first have passed.
            if not begun and room < leave + me.length:
                crossing[i], first[i] = max(to_stop, 0.0), ahead[i]
            elif net.gives_way[me.route, other.route] and _comes(
                me,
                other,
                begun,
                to_it,
                leave - front,
                to_theirs,
                to_theirs + their_out - net.meet_in[other.route, me.route],
            ):
                crossing[i], first[i] = max(to_stop, 0.0), j


@compiled
def _at_red(other: Any, net: Network, green: Bool, to_it: float) -> bool:
    """Whether a red light keeps another from coming to a point so many m ahead of it."""
    front = other.along + other.axle + 0.5 * other.length
    for k in range(2):
        group, way = net.signal[other.route, k], net.stop[other.route, k] - front
        if group >= 0 and not green[group] and -1.0 < way < to_it:
            return True
    return False


@compiled
def _comes(
    me: Any, other: Any, begun: bool, to_it: float, through: float, to_theirs: float, their_through: float
) -> bool:
    """Whether another, who goes first, comes while I would be where we meet, or soon before or after.

    m, from either's front: to where the ways meet, and through there.
    """
    if other.speed < 0.1 and other.waited > 2.0 and to_theirs > 1.0:
        return False  # it waits itself
    # Who has waited for long takes smaller gaps, in the end such that others have to brake.
    hurry = min(max(me.waited / PATIENCE_S - 1.0, 0.0), 1.0)
    nerve = 0.2 if begun or hurry > 0.0 else me.nerve
    gone = _takes(me, through + me.length + 1.0) * (1.0 - 0.5 * hurry)
    their_gone = (their_through + other.length) / max(other.speed, 1.5)
    return bool(_takes(me, to_it) < their_gone + nerve and _takes(other, to_theirs) < gone + nerve)


@compiled
def _takes(me: Any, way: float) -> float:
    """The time for some m, s: setting off swiftly, up to what one is used to among others."""
    if way <= 0.0:
        return 0.0
    by_speed = way / max(me.speed, min(me.cruise, 7.0))
    by_pull = (math.sqrt(me.speed**2 + 2.0 * me.accelerate * way) - me.speed) / me.accelerate
    return float(max(by_pull, by_speed))


@compiled
def steer(agents: Rows, net: Network, dt: float) -> None:
    """Turn the wheels towards a point ahead on the followed line, and move on."""
    for i in range(len(agents)):
        me = agents[i]
        route = me.route
        base = max(0.35 * me.length + 1.0, 0.9 * me.preview * me.speed)
        x, y, _ = _point(net.xy[route], net.yaw[route], net.length[route], me.along + base, me.line)
        away = math.hypot(x - me.x, y - me.y)
        off = math.atan2(y - me.y, x - me.x) - me.yaw
        bend = 2.0 * math.sin(off) / max(away, 0.5)
        if math.cos(off) < 0.0:
            bend = math.copysign(me.bend_max, math.sin(off))
        change = BEND_RATE_PER_M_S * me.bend_max / 0.2 * dt
        bend = me.bend + min(max(bend - me.bend, -change), change)
        limit = min(me.bend_max, LATERAL_MAX_MPS2 / max(me.speed, 0.1) ** 2)
        me.bend = min(max(bend, -limit), limit)
        way = me.speed * dt
        me.x += way * math.cos(me.yaw + 0.5 * way * me.bend)
        me.y += way * math.sin(me.yaw + 0.5 * way * me.bend)
        me.yaw += way * me.bend


@compiled
def accelerate(
    agents: Rows, net: Network, gap: Float, ahead_speed: Float, line_gap: Float, crossing: Float, dt: float
) -> None:
    """The intelligent driver model towards whatever is nearest, with limited jerk."""
    for i in range(len(agents)):
        me = agents[i]
        last = int(net.length[me.route])
        wanted = min(me.cruise, net.limit[me.route]) * (1.0 + me.pace)
        # Bends ahead: slow enough there, braking comfortably on the way.
        here = int(max(me.along, 0.0))
        for p in range(here, min(here + int(10.0 + 4.0 * me.speed), last), 2):
            bend = abs(net.curvature[me.route, p])
            if bend > 0.005:
                through = me.lateral / bend
                wanted = min(wanted, math.sqrt(through + 1.4 * me.brake * max(p - me.along, 0.0)))
        wanted = max(wanted, 0.8)
        free = 1.0 - (me.speed / wanted) ** 4
        if me.speed > wanted:
            free = -me.brake / me.accelerate * min(1.0, (me.speed - wanted) / 1.0)
        most = free * me.accelerate
        halt = math.inf if me.along > me.halt_at else me.halt_at - me.along
        for k in range(4):
            room = (gap[i], line_gap[i], crossing[i], halt)[k]
            if room == math.inf:
                continue
            theirs = max(ahead_speed[i], 0.0) if k == 0 else 0.0
            closing = me.speed - (ahead_speed[i] if k == 0 else 0.0)
            keep = me.gap if k == 0 else 0.3
            comfort = 2.0 * math.sqrt(me.accelerate * me.brake)
            desired = keep + max(
                0.0, me.speed * (me.headway if k == 0 else 0.3) + me.speed * closing / comfort
            )
            pull = me.accelerate * (min(free, 1.0) - (desired / max(room, 0.1)) ** 2)
            # No harder than it takes: who cuts in at my speed is given room again without a fright.
            needed = max(closing, 0.0) ** 2 / (2.0 * max(room - 0.5 * keep, 0.5))
            pull = max(pull, -me.brake - 1.5 * needed)
            if theirs < 0.1 and me.speed < 0.3 and room < keep + 0.4:
                pull = -me.brake
            most = min(most, pull)
        most = max(most, -me.brake_max)
        if me.held > 0.0:
            most = min(most, 0.0)
        # Off the brake faster than on the throttle.
        lift = (3.0 if me.acceleration < 0.0 else 1.0) * JERK_MPS3 * dt
        press = (2.0 if most > -1.3 * me.brake else 10.0) * JERK_MPS3 * dt
        acceleration = me.acceleration + min(max(most - me.acceleration, -press), lift)
        if me.speed < 0.05 and acceleration < 0.15:
            me.speed, me.acceleration = 0.0, 0.0
        else:
            before = me.speed
            me.speed = max(before + acceleration * dt, 0.0)
            me.acceleration = (me.speed - before) / dt


def plan(
    agents: Rows, wish: Float, gap: Float, line_gap: Float, crossing: Float, dt: float, rng: Generator
) -> None:
    """Follow plans and whims: the line to be on, how fast, when to set off again after standing."""
    count = len(agents)
    kept = np.exp(-dt / agents["wander_s"])
    fresh = np.sqrt(1.0 - kept**2)
    agents["stray"] = kept * agents["stray"] + fresh * agents["wander_m"] * rng.normal(size=count)
    agents["pace"] = kept * agents["pace"] + fresh * 0.06 * rng.normal(size=count)
    planned = (agents["along"] >= agents["shift_at"]) & (
        agents["along"] < agents["shift_at"] + agents["shift_for"]
    )
    wanted = agents["home"] + np.where(planned, agents["shift_by"], 0.0)
    wanted = np.where(wish != 0.0, wish, wanted + agents["stray"])
    slide = agents["slide"] * np.clip(agents["speed"] / 2.0, 0.15, 1.0) * dt
    change = np.clip((wanted - agents["line"]) * dt / 1.2, -slide, slide)
    agents["dodge"] += np.clip(change - agents["dodge"], -0.8 * dt**2, 0.8 * dt**2)
    agents["line"] += agents["dodge"]

    stands = agents["speed"] < 0.1
    # Impatience wears off slowly, so that who has begun to squeeze through goes on.
    agents["waited"] = np.maximum(agents["waited"] + np.where(stands, dt, -2.0 * dt), 0.0)
    blocked = (np.minimum(gap, np.minimum(line_gap, crossing)) < agents["gap"] + 1.0) & stands
    agents["held"] = np.where(blocked, agents["reaction"], np.maximum(agents["held"] - dt, 0.0))
    halting = stands & (agents["halt_at"] - agents["along"] < 1.5)
    agents["halt_for"] = np.where(halting, agents["halt_for"] - dt, agents["halt_for"])
    agents["halt_at"] = np.where(halting & (agents["halt_for"] <= 0.0), np.inf, agents["halt_at"])


def boxes_of(agents: Rows) -> Rows:
    """What others see of those on wheels."""
    boxes = np.zeros(len(agents), BOX)
    cosine, sine = np.cos(agents["yaw"]), np.sin(agents["yaw"])
    boxes["x"] = agents["x"] + agents["axle"] * cosine
    boxes["y"] = agents["y"] + agents["axle"] * sine
    # The centre swings out with the turn.
    swing = agents["speed"] * agents["bend"] * agents["axle"]
    boxes["vx"] = agents["speed"] * cosine - swing * sine
    boxes["vy"] = agents["speed"] * sine + swing * cosine
    boxes["yaw"], boxes["length"], boxes["width"] = agents["yaw"], agents["length"], agents["width"]
    return boxes


def seated(agents: Rows, net: Network) -> None:
    """Put each on its route where `along` says, on the line where it likes to be."""
    for me in agents:
        p = int(me["along"])
        way = net.yaw[me["route"], p]
        side = me["home"]
        me["line"] = me["aside"] = side
        me["yaw"] = way
        me["x"], me["y"] = net.xy[me["route"], p] + side * np.array([-np.sin(way), np.cos(way)])
