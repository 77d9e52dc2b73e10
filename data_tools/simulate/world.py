"""What a place to simulate is made of: where one may go, what stands there, signals, who comes how often."""

from __future__ import annotations

from dataclasses import dataclass, replace

from data_tools.simulate.routes import Route
from data_tools.simulate.walk import Way
from trajpred.geometry import rotate
from trajpred.lanes import Lanes
from trajpred.types import Label

EGO_PATH = "ego_path"
"""The kind of line that a car with a planner drives along; nobody else does."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Something that does not move: centre m, yaw rad, length, width, height m."""

    label: Label
    x: float
    y: float
    yaw: float
    size: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Phase:
    """Which signal groups are green, and for how long."""

    seconds: float
    green: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cast:
    """A cyclist with a part to play, there when the recording begins: where on which route, how fast.

    m and m/s. After shift_after_m it moves to a line shift_by m to the left of its own, at most with slide.
    """

    route: str
    along: float
    speed: float
    home: float
    shift_after_m: float
    shift_by: float
    slide: float


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A place with its demand: who comes along which route or way, and how often; and who is cast."""

    name: str
    routes: tuple[Route, ...]
    ways: tuple[Way, ...]
    lanes: Lanes
    standing: tuple[Standing, ...] = ()
    phases: tuple[Phase, ...] = ()
    whims: float = 1.0
    """How often cyclists change their line or stop for no reason that anyone sees."""
    cast: tuple[Cast, ...] = ()


def turned(world: World, angle: float) -> World:
    """The same world, turned about its origin."""

    def standing(one: Standing) -> Standing:
        x, y = rotate((one.x, one.y), angle)
        return replace(one, x=float(x), y=float(y), yaw=one.yaw + angle)

    return replace(
        world,
        routes=tuple(replace(route, line=rotate(route.line, angle)) for route in world.routes),
        ways=tuple(replace(way, points=rotate(way.points, angle)) for way in world.ways),
        standing=tuple(map(standing, world.standing)),
        lanes=Lanes(
            tuple(replace(line, points=rotate(line.points, angle)) for line in world.lanes.lines),
            tuple(replace(area, outline=rotate(area.outline, angle)) for area in world.lanes.areas),
        ),
    )
