"""What each kind of road user can do and likes to do: the ranges that every individual is drawn from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from trajpred.types import Label

Range = tuple[float, float]

LATERAL_MAX_MPS2 = 4.0
"""No one on wheels takes a bend faster, whatever was drawn: the friction of a wet road."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Ranges (low, high) of one kind on wheels; every individual draws uniformly from each.

    size_m: length, width, height. axle_m: from the rear axle, which moves where the wheels point, forward to
    the centre. cruise_mps: wanted on a free straight; accelerate, brake m/s2: what is comfortable;
    brake_max_mps2: what is possible; bend_max_per_m: the tightest curve; lateral_mps2: comfortable in a bend;
    headway_s, gap_m: kept to the one ahead; wander_m, wander_s: how far one strays from one's line, and for
    how long; slide_mps: how fast one changes to another line; aside_m: where in the lane one goes, to the
    left of its middle.
    """

    label: Label
    size_m: tuple[Range, Range, Range]
    axle_m: float
    cruise_mps: Range
    accelerate_mps2: Range
    brake_mps2: Range
    brake_max_mps2: float
    bend_max_per_m: float
    lateral_mps2: Range
    headway_s: Range
    gap_m: Range
    wander_m: Range
    wander_s: Range
    slide_mps: Range
    aside_m: Range


CAR = Kind(
    label=Label.CAR,
    size_m=((3.7, 5.1), (1.65, 1.95), (1.4, 1.8)),
    axle_m=1.35,
    cruise_mps=(8.0, 19.0),
    accelerate_mps2=(1.0, 2.2),
    brake_mps2=(1.3, 2.5),
    brake_max_mps2=7.0,
    bend_max_per_m=0.19,
    lateral_mps2=(1.3, 2.8),
    headway_s=(0.6, 1.7),
    gap_m=(1.5, 3.0),
    wander_m=(0.05, 0.25),
    wander_s=(4.0, 10.0),
    slide_mps=(0.6, 1.3),
    aside_m=(-0.3, 0.3),
)
TRUCK = Kind(
    label=Label.TRUCK,
    size_m=((6.0, 10.0), (2.2, 2.55), (2.5, 3.8)),
    axle_m=2.6,
    cruise_mps=(7.0, 16.0),
    accelerate_mps2=(0.6, 1.2),
    brake_mps2=(1.0, 1.8),
    brake_max_mps2=5.5,
    bend_max_per_m=0.12,
    lateral_mps2=(0.9, 1.7),
    headway_s=(1.2, 2.2),
    gap_m=(2.0, 3.5),
    wander_m=(0.05, 0.2),
    wander_s=(4.0, 10.0),
    slide_mps=(0.5, 0.9),
    aside_m=(-0.2, 0.2),
)
BUS = replace(
    TRUCK,
    label=Label.BUS,
    size_m=((10.0, 13.0), (2.5, 2.6), (2.9, 3.3)),
    axle_m=3.4,
    cruise_mps=(7.0, 15.0),
    accelerate_mps2=(0.6, 1.1),
    brake_mps2=(0.9, 1.4),
    brake_max_mps2=5.0,
    bend_max_per_m=0.1,
    lateral_mps2=(0.8, 1.5),
)
MOTORCYCLE = Kind(
    label=Label.MOTORCYCLE,
    size_m=((1.9, 2.3), (0.7, 0.9), (1.3, 1.7)),
    axle_m=0.7,
    cruise_mps=(9.0, 20.0),
    accelerate_mps2=(1.5, 3.5),
    brake_mps2=(1.5, 3.0),
    brake_max_mps2=7.0,
    bend_max_per_m=0.3,
    lateral_mps2=(1.8, 3.5),
    headway_s=(0.7, 1.5),
    gap_m=(1.0, 2.0),
    wander_m=(0.1, 0.4),
    wander_s=(2.0, 6.0),
    slide_mps=(0.8, 1.8),
    aside_m=(-0.8, 0.8),
)
BICYCLE = Kind(
    label=Label.BICYCLE,
    size_m=((1.6, 1.9), (0.5, 0.75), (1.6, 1.85)),
    axle_m=0.55,
    cruise_mps=(2.0, 7.2),
    accelerate_mps2=(0.5, 1.8),
    brake_mps2=(0.7, 2.4),
    brake_max_mps2=4.5,
    bend_max_per_m=0.55,
    lateral_mps2=(1.0, 2.8),
    headway_s=(0.3, 1.2),
    gap_m=(0.4, 1.2),
    wander_m=(0.05, 0.6),
    wander_s=(1.5, 6.0),
    slide_mps=(0.5, 1.8),
    aside_m=(-0.4, 0.4),
)
WHEELS = {"car": CAR, "truck": TRUCK, "bus": BUS, "motorcycle": MOTORCYCLE, "bicycle": BICYCLE}

AGENT = np.dtype(
    [
        ("number", "i8"),
        ("label", "u1"),
        ("route", "i8"),
        *(
            (name, "f8")
            for name in (
                # where it is: the rear axle, m, rad, m/s, m/s2, 1/m; along and beside its route, m
                *("x", "y", "yaw", "speed", "acceleration", "bend", "along", "aside"),
                # what it is
                *("length", "width", "height", "axle"),
                # what it can and likes: see Kind
                *("cruise", "accelerate", "brake", "brake_max", "bend_max", "lateral", "headway", "gap"),
                *("wander_m", "wander_s", "slide", "home"),
                # how it steers: how far ahead it looks, s; how it reacts, s; the gap it takes, s
                *("preview", "reaction", "nerve"),
                # what it is up to: strays now (m, share of speed), the line it follows, passing someone,
                # waiting since
                *("stray", "pace", "line", "dodge", "waited", "held"),
                # a change of line planned from where on its route, for how many m, by how much; a stop, for
                # how many s
                *("shift_at", "shift_for", "shift_by", "halt_at", "halt_for"),
            )
        ),
    ]
)
"""One row of the traffic's state: somebody on wheels."""


def draw(name: str, count: int, rng: Generator) -> NDArray[np.void]:
    """(count,) AGENT rows of a kind, at rest at the origin, without plans."""
    kind = WHEELS[name]
    agents = np.zeros(count, AGENT)

    def among(limits: Range) -> NDArray[np.float64]:
        return rng.uniform(*limits, count)

    agents["label"], agents["axle"], agents["brake_max"] = kind.label, kind.axle_m, kind.brake_max_mps2
    agents["bend_max"] = kind.bend_max_per_m
    for field, limits in zip(("length", "width", "height"), kind.size_m, strict=True):
        agents[field] = among(limits)
    for field, limits in {
        "cruise": kind.cruise_mps,
        "accelerate": kind.accelerate_mps2,
        "brake": kind.brake_mps2,
        "lateral": kind.lateral_mps2,
        "headway": kind.headway_s,
        "gap": kind.gap_m,
        "wander_m": kind.wander_m,
        "wander_s": kind.wander_s,
        "slide": kind.slide_mps,
        "home": kind.aside_m,
        "preview": (0.7, 1.3),
        "reaction": (0.3, 1.4),
        "nerve": (0.6, 2.0),
    }.items():
        agents[field] = among(limits)
    agents["shift_at"] = agents["halt_at"] = np.inf
    return agents
