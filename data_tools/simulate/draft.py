"""A world in the making: a street by its cross-section, and what is drawn of it, one after the other.

Traffic keeps to the right. A street's lines run in one direction; what lies to their right has a negative
offset.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from data_tools.simulate.routes import Route, beside
from data_tools.simulate.walk import GO, Way
from data_tools.simulate.world import Phase, Standing, World
from trajpred.lanes import Area, Lanes, Line
from trajpred.types import Float


@dataclass(frozen=True, slots=True)
class Street:
    """The cross-section, the same on both sides of the middle: widths in m."""

    lanes: int
    lane_m: float
    bicycle_m: float
    parking_m: float
    pavement_m: float

    @classmethod
    def draw(cls, rng: Generator, lanes: int | None = None, parking: bool = False) -> Street:
        """Any street, or one of so many lanes, or one with parked cars."""
        return cls(
            lanes=lanes or int(rng.choice((1, 2), p=(0.7, 0.3))),
            lane_m=float(rng.uniform(2.9, 3.7)),
            bicycle_m=float(rng.choice((0.0, rng.uniform(1.3, 2.4)))),
            parking_m=2.1 if parking else 0.0,
            pavement_m=float(rng.uniform(1.8, 4.5)),
        )

    def lane(self, number: int) -> float:
        """The middle of a lane, counted from the middle of the street."""
        return -(number + 0.5) * self.lane_m

    @property
    def bicycle(self) -> float:
        """Where cyclists ride: in the middle of their lane, or near the edge of the outermost."""
        edge = self.lanes * self.lane_m
        return -(edge + 0.5 * self.bicycle_m) if self.bicycle_m else -(edge - 0.75)

    @property
    def parking(self) -> float:
        """The middle of the parked cars."""
        return -(self.lanes * self.lane_m + self.bicycle_m + 0.5 * self.parking_m)

    @property
    def kerb(self) -> float:
        """Where the pavement begins."""
        return -(self.lanes * self.lane_m + self.bicycle_m + self.parking_m)

    @property
    def pavement(self) -> float:
        """The middle of the pavement."""
        return self.kerb - 0.5 * self.pavement_m

    @property
    def far(self) -> float:
        """The far side of the pavement."""
        return self.kerb - self.pavement_m


@dataclass(slots=True)
class Draft:
    """A world in the making."""

    rng: Generator
    routes: list[Route] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    standing: list[Standing] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    areas: list[Area] = field(default_factory=list)

    def per_hour(self, low: float, high: float) -> float:
        """How many come: anything between, low rates as likely as high ones."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def drive(self, name: str, line: Float, limit_mps: float, per_hour: float, **more: object) -> None:
        """A route for motor vehicles: mostly cars."""
        for kind, share in (("car", 0.8), ("truck", 0.08), ("bus", 0.04), ("motorcycle", 0.08)):
            self.routes.append(Route(name, kind, line, limit_mps, share * per_hour, **more))  # type: ignore[arg-type]

    def ride(self, name: str, line: Float, per_hour: float, **more: object) -> None:
        """A route for cyclists."""
        self.routes.append(Route(name, "bicycle", line, 12.0, per_hour, **more))  # type: ignore[arg-type]

    def walk(self, points: Float, wait: tuple[int, ...], width_m: float, per_hour: float) -> None:
        """A way on foot; wait: what for at each of its points."""
        self.ways.append(Way(points, wait, width_m, per_hour))

    def show(self, kind: str, line: Float) -> None:
        """A line to be seen on the map of the place."""
        self.lines.append(Line(kind, line))

    def street(self, line: Float, street: Street) -> None:
        """Draw one side of a street, to the right of its middle."""
        kerb, far = beside(line, street.kerb), beside(line, street.far)
        self.areas.append(Area("road", np.concatenate([line, kerb[::-1]])))
        self.areas.append(Area("sidewalk", np.concatenate([kerb, far[::-1]])))
        self.show("lane_edge", line)
        for number in range(1, street.lanes + 1):
            self.show("lane_edge", beside(line, -number * street.lane_m))
        if street.bicycle_m:
            self.show("bicycle_lane", beside(line, street.bicycle))
        self.show("kerb", kerb)

    def pavement(self, line: Float, street: Street, per_hour: float) -> None:
        """A way along the pavement to the right of a street's middle."""
        points = beside(line, street.pavement)[:: max(1, len(line) // 6)]
        self.walk(points, (GO,) * len(points), street.pavement_m, per_hour)

    def crossing(self, line: Float, at: int, street: Street, rule: int, per_hour: float) -> None:
        """A way on foot across a street, where the line has its point `at`; with stripes."""
        here = line[max(at - 1, 0) : at + 2]
        sides = [
            beside(here, side)[1]
            for side in (street.far + 0.4, street.kerb - 0.5, -street.kerb + 0.5, -street.far - 0.4)
        ]
        self.walk(np.array(sides), (GO, rule, rule, GO), 3.0, per_hour)
        self.show("crosswalk", np.array(sides[1:3]))

    def world(self, name: str, phases: tuple[Phase, ...] = (), whims: float = 1.0) -> World:
        """What has been drawn, as a place of this name."""
        lanes = Lanes(tuple(self.lines), tuple(self.areas))
        return World(name, tuple(self.routes), tuple(self.ways), lanes, tuple(self.standing), phases, whims)
