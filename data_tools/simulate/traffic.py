"""A world with its traffic, moment by moment: who comes, how all move, who leaves; and the record of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_tools.simulate import drive, kinds, walk
from data_tools.simulate.routes import network
from data_tools.simulate.world import World
from trajpred.types import Bool, Float, Int, Label, Scene, ids_from_int

STEP_S = 0.1
"""The longest step of the simulation."""
WARM_UP_S = 20.0
ROOM_M = 6.0
"""Who comes into view has at least so much room to brake in."""
PATIENCE_S, STUCK_S = 4.0, 20.0
"""Those who wait for each other for so long, or for what never moves, are taken away."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """Everybody at one time.

    number, label (N,); xy (N, 2) m; yaw (N,) rad; velocity (N, 2) m/s; size (N, 3) m: length, width, height.
    """

    number: Int
    label: NDArray[np.uint8]
    xy: Float
    yaw: Float
    velocity: Float
    size: Float


class Traffic:
    """Everybody in a world. `advance` moves all by one step; `moment` says where they are."""

    def __init__(self, world: World, rng: Generator, step_s: float = STEP_S) -> None:
        self._world, self._rng, self.step_s = world, rng, step_s
        self._net = network(world.routes)
        self.time_s = 0.0
        self.agents = np.zeros(0, kinds.AGENT)
        self.walkers = np.zeros(0, walk.WALKER)
        self._due = np.zeros(len(world.routes), np.int64)
        self._next_number = 1 + len(world.standing)
        self._groups = 1 + max((g for phase in world.phases for g in phase.green), default=0)
        self._cycle_s = sum(phase.seconds for phase in world.phases)
        self._clock_s = rng.uniform(0.0, self._cycle_s) if world.phases else 0.0
        self._route_rate = np.array([route.per_hour for route in world.routes]) / 3600.0
        self._way_rate = np.array([way.per_hour for way in world.ways]) / 3600.0
        longest = max((len(way.points) for way in world.ways), default=1)
        self._points = np.zeros((len(world.ways), longest, 2))
        self._wait = np.full((len(world.ways), longest), walk.GO)
        for w, way in enumerate(world.ways):
            self._points[w, : len(way.points)], self._wait[w, : len(way.points)] = way.points, way.wait
        self._point_count = np.array([len(way.points) for way in world.ways], np.int64)
        self._standing = np.zeros(len(world.standing), drive.BOX)
        for row, one in zip(self._standing, world.standing, strict=True):
            row["x"], row["y"], row["yaw"], row["length"], row["width"] = one.x, one.y, one.yaw, *one.size[:2]
        self._populate()

    def green(self) -> Bool:
        """(G,) which signal groups may go now."""
        may_go = np.zeros(self._groups, bool)
        at = (self.time_s + self._clock_s) % self._cycle_s if self._cycle_s else 0.0
        for phase in self._world.phases:
            if at < phase.seconds:
                may_go[list(phase.green)] = True
                break
            at -= phase.seconds
        return may_go

    def advance(self) -> None:
        """One step on."""
        dt, agents, net = self.step_s, self.agents, self._net
        green = self.green()
        wheels = drive.boxes_of(agents)
        vehicles = np.concatenate([wheels, self._standing])
        count = len(agents)
        gap, ahead_speed, wish, line_gap, crossing = (np.empty(count) for _ in range(5))
        ahead, first = np.empty(count, np.int64), np.empty(count, np.int64)
        boxes = np.concatenate([vehicles, self._walker_boxes()])
        drive.look(agents, boxes, net, gap, ahead_speed, ahead, wish)
        drive.hold(agents, net, green, gap, ahead, line_gap, crossing, first)
        drive.plan(agents, wish, gap, line_gap, crossing, dt, self._rng)
        drive.accelerate(agents, net, gap, ahead_speed, line_gap, crossing, dt)
        drive.steer(agents, net, dt)
        drive.locate(agents, net.xy, net.length)
        noise = self._rng.normal(size=(len(self.walkers), 3))
        walk.step(self.walkers, vehicles, self._points, self._wait, self._point_count, green, noise, dt)
        self.time_s += dt
        self._leave(self._stuck(np.where(crossing < gap, first, ahead), np.isfinite(line_gap)))
        self._come()

    def cast(self) -> None:
        """Put those on stage who have a part to play."""
        names = [route.name for route in self._world.routes]
        for part in self._world.cast:
            cyclist = kinds.draw("bicycle", 1, self._rng)
            cyclist["number"], self._next_number = self._next_number, self._next_number + 1
            cyclist["route"], cyclist["along"] = names.index(part.route), part.along
            cyclist["cruise"] = cyclist["speed"] = part.speed
            cyclist["home"], cyclist["slide"], cyclist["wander_m"] = part.home, part.slide, 0.1
            cyclist["shift_at"] = part.along + part.shift_after_m
            cyclist["shift_for"], cyclist["shift_by"] = np.inf, part.shift_by
            drive.seated(cyclist, self._net)
            self.agents = np.concatenate([self.agents, cyclist])

    def moment(self) -> Moment:
        """Where everybody is now, those who stand included."""
        boxes = np.concatenate([self._standing, drive.boxes_of(self.agents), self._walker_boxes()])
        world = self._world
        return Moment(
            number=np.concatenate(
                [1 + np.arange(len(world.standing)), self.agents["number"], self.walkers["number"]]
            ),
            label=np.concatenate(
                [
                    np.array([one.label for one in world.standing], np.uint8),
                    self.agents["label"],
                    np.full(len(self.walkers), Label.PEDESTRIAN, np.uint8),
                ]
            ),
            xy=np.stack([boxes["x"], boxes["y"]], axis=1),
            yaw=np.arctan2(np.sin(boxes["yaw"]), np.cos(boxes["yaw"])),
            velocity=np.stack([boxes["vx"], boxes["vy"]], axis=1),
            size=np.stack(
                [
                    boxes["length"],
                    boxes["width"],
                    np.concatenate(
                        [
                            [one.size[2] for one in world.standing],
                            self.agents["height"],
                            self.walkers["height"],
                        ]
                    ),
                ],
                axis=1,
            ),
        )

    def _walker_boxes(self) -> drive.Rows:
        boxes = np.zeros(len(self.walkers), drive.BOX)
        for name in ("x", "y", "vx", "vy", "yaw", "length", "width"):
            boxes[name] = self.walkers[name]
        return boxes

    def _stuck(self, ahead: Int, at_red: Bool) -> Bool:
        """(N,) one of each ring of those who wait for each other; who waits for what never moves."""
        waited, stuck = self.agents["waited"], np.zeros(len(self.agents), bool)
        for start in np.flatnonzero((waited > PATIENCE_S) & (ahead >= 0) & ~at_red):
            seen, at = [], start
            while (
                0 <= at < len(waited) and waited[at] > 0.5 * PATIENCE_S and not at_red[at] and at not in seen
            ):
                seen.append(at)
                at = ahead[at]
            stands = len(waited) <= at < len(waited) + len(self._standing)
            stuck[start] = start == min(seen) and (at == start or (stands and waited[start] > STUCK_S))
        return stuck

    def _leave(self, stuck: Bool) -> None:
        agents, walkers = self.agents, self.walkers
        end = agents["along"] + agents["axle"] + 0.5 * agents["length"]
        self.agents = agents[~(stuck | (end > self._net.length[agents["route"]]))]
        arrived = (walkers["next"] < 0) | (walkers["next"] >= self._point_count[walkers["way"]])
        self.walkers = walkers[~arrived]

    def _come(self) -> None:
        self._due += self._rng.random(len(self._due)) < self._route_rate * self.step_s
        for route in np.flatnonzero(self._due).tolist():
            if self._enter(route, 0.0):
                self._due[route] -= 1
        sets_off = self._rng.random(len(self._way_rate)) < self._way_rate * self.step_s
        for way in np.flatnonzero(sets_off).tolist():
            self._set_off(way, 0.0, self._party())

    def _party(self) -> int:
        """How many go together: one out of three has company."""
        return 1 if self._rng.random() < 0.65 else int(self._rng.integers(2, 5))

    def _room(self, xy: Float) -> float:
        """How far it is to whoever is nearest: less half a length, 7 m, and a second of his way."""
        boxes = np.concatenate([drive.boxes_of(self.agents), self._standing])
        away = np.hypot(boxes["x"] - xy[0], boxes["y"] - xy[1])
        room = away - 7.0 - 0.5 * boxes["length"] - np.hypot(boxes["vx"], boxes["vy"])
        return float(room.min(initial=np.inf))

    def _enter(self, route: int, along: float) -> bool:
        """Somebody begins a route, or is on it already, if there is room: no faster than that he can stop."""
        rng, world = self._rng, self._world
        room = self._room(self._net.xy[route, int(along)])
        if room < ROOM_M:
            return False
        what = world.routes[route]
        agent = kinds.draw(what.kind, 1, rng)
        agent["number"], self._next_number = self._next_number, self._next_number + 1
        agent["route"], agent["along"] = route, along
        pace = np.minimum(agent["cruise"] * rng.uniform(0.7, 1.0), np.sqrt(2.0 * agent["brake"] * room))
        agent["speed"] = 0.0 if what.parked else np.minimum(pace, what.limit_mps)
        if what.kind == "bicycle":
            self._whims(agent, what.left_m)
        elif what.next_lane_m and rng.random() < 0.3:
            agent["shift_at"] = rng.uniform(0.05, 0.7) * self._net.length[route]
            agent["shift_for"], agent["shift_by"] = np.inf, what.next_lane_m
        elif rng.random() < world.whims * (0.5 if what.kind == "bus" else 0.03):
            agent["halt_at"], agent["halt_for"] = rng.uniform(20.0, 200.0), rng.uniform(4.0, 20.0)
        drive.seated(agent, self._net)
        self.agents = np.concatenate([self.agents, agent])
        return True

    def _whims(self, cyclist: drive.Rows, left_m: float) -> None:
        """What a cyclist will do on the way without a reason that is seen: move to the left, stop."""
        rng, often = self._rng, self._world.whims
        length = float(self._net.length[cyclist["route"][0]])
        if rng.random() < 0.18 * often:
            cyclist["shift_at"] = rng.uniform(0.05, 0.8) * length
            cyclist["shift_for"] = rng.choice((rng.uniform(8.0, 40.0), length))
            cyclist["shift_by"] = rng.choice((1.0, -0.4)) * rng.uniform(0.5, max(left_m, 0.8))
        if rng.random() < 0.06 * often:
            cyclist["halt_at"], cyclist["halt_for"] = rng.uniform(0.1, 0.9) * length, rng.uniform(1.0, 12.0)

    def _set_off(self, way: int, share: float, count: int) -> None:
        """Some pedestrians begin a way together, or are somewhere on its first stretches already."""
        rng, made = self._rng, walk.draw(count, self._rng)
        last = int(self._point_count[way]) - 1
        back = rng.random() < 0.5
        leg = int(share * last)
        start, towards = (last - leg, last - leg - 1) if back else (leg, leg + 1)
        made["number"] = self._next_number + np.arange(count)
        self._next_number += count
        made["way"], made["back"], made["next"] = way, back, towards
        # Who goes together goes side by side, at one pace, and stops and turns back together.
        made["aside"] = rng.uniform(-0.5, 0.5) * self._world.ways[way].width_m + 0.7 * np.arange(count)
        for name in ("cruise", "stop_in", "turn_in"):
            made[name] = made[name][0]
        a, b = self._points[way, start], self._points[way, towards]
        at = a + (b - a) * (rng.random() if share and self._wait[way, towards] == walk.GO else 0.0)
        yaw = math.atan2(b[1] - a[1], b[0] - a[0])
        made["x"] = at[0] - made["aside"] * math.sin(yaw) + rng.normal(scale=0.2, size=count)
        made["y"] = at[1] + made["aside"] * math.cos(yaw) + rng.normal(scale=0.2, size=count)
        made["yaw"] = yaw
        made["vx"], made["vy"] = made["cruise"] * math.cos(yaw), made["cruise"] * math.sin(yaw)
        if share and rng.random() < 0.2:  # they stand and talk
            made["stands_for"], made["vx"], made["vy"] = rng.uniform(10.0, 120.0), 0.0, 0.0
        self.walkers = np.concatenate([self.walkers, made])

    def _populate(self) -> None:
        """As many as one would find, spread along their routes and ways."""
        rng = self._rng
        for route, what in enumerate(self._world.routes):
            length = self._net.length[route]
            stop = min(self._net.stop[route, 0], length)
            for _ in range(rng.poisson(self._route_rate[route] * stop / 8.0)):
                along = rng.uniform(0.0, max(stop - 20.0, 1.0))
                if not what.parked:
                    self._enter(route, float(int(along)))
        for way, rate in enumerate(self._way_rate):
            metres = np.hypot(*np.diff(self._world.ways[way].points, axis=0).T).sum()
            for _ in range(rng.poisson(rate * metres / 1.3)):
                self._set_off(way, rng.random(), self._party())


def moments(traffic: Traffic, seconds: float, every: int) -> Iterator[Moment]:
    """The record: after warming up, everybody at every so many steps."""
    for _ in range(round(WARM_UP_S / traffic.step_s)):
        traffic.advance()
    traffic.cast()
    for step in range(round(seconds / traffic.step_s) + 1):
        if step % every == 0:
            yield traffic.moment()
        traffic.advance()


def truth(world: World, seconds: float, rate_hz: float, rng: Generator, name: str | None = None) -> Scene:
    """Everybody at every 1 / rate_hz s, from stamp 0, as they were."""
    every = max(1, math.ceil(1.0 / (rate_hz * STEP_S) - 1e-9))
    traffic = Traffic(world, rng, 1.0 / (rate_hz * every))
    found = list(moments(traffic, seconds, every))
    stamp_ns = np.rint(np.arange(len(found)) * (1e9 / rate_hz)).astype(np.int64)
    return Scene.build(
        name or world.name,
        np.repeat(stamp_ns, [len(m.number) for m in found]),
        ids_from_int(np.concatenate([m.number for m in found])),
        np.concatenate([m.xy for m in found]),
        label=np.concatenate([m.label for m in found]),
        yaw=np.concatenate([m.yaw for m in found]),
        velocity=np.concatenate([m.velocity for m in found]),
        size=np.concatenate([m.size for m in found]),
    )
