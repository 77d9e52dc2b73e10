"""Places where streets meet: junctions and roundabouts, each drawn at random."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import shapely
from numpy.random import Generator

from data_tools.simulate.draft import Draft, Street
from data_tools.simulate.routes import NO_SIGNAL, beside, joined, resampled
from data_tools.simulate.walk import GAP
from data_tools.simulate.world import Phase, Standing, World
from trajpred.lanes import Area
from trajpred.types import Float, Label

ARM_M = 130.0


@dataclass(frozen=True, slots=True, eq=False)
class _Arm:
    """One street of a junction: its middle from afar to the stop line, and from there back."""

    street: Street
    angle: float
    into: Float
    out: Float

    @classmethod
    def at(cls, angle: float, street: Street, stop_m: float) -> _Arm:
        way = np.array([math.cos(angle), math.sin(angle)])
        out = np.arange(stop_m, ARM_M, 1.0)[:, None] * way
        return cls(street, angle, out[::-1], out)


def _angles(rng: Generator, arms: int) -> list[float]:
    return [2 * math.pi * i / 4 + float(rng.normal(scale=0.12)) for i in range(arms)]


def _arms(rng: Generator, arms: int, extra_m: float) -> list[_Arm]:
    """Arms of a crossing, the opposite ones alike, with room in the middle for the widest."""
    streets = [Street.draw(rng), Street.draw(rng)]
    half = max(abs(street.far) for street in streets)
    stop_m = half + extra_m
    return [_Arm.at(angle, streets[i % 2], stop_m) for i, angle in enumerate(_angles(rng, arms))]


def _middle(arms: list[_Arm]) -> Area:
    """The road between the arms of a crossing."""
    corners = [beside(arm.out, side * arm.street.kerb)[0] for arm in arms for side in (-1, 1)]
    hull = shapely.convex_hull(shapely.MultiPoint(corners))
    return Area("road", np.array(hull.exterior.coords)[:-1])


def junction(rng: Generator) -> World:
    """Three or four arms, with signals, or with one street that goes first."""
    draft = Draft(rng)
    arms = _arms(rng, int(rng.choice((3, 4), p=(0.3, 0.7))), rng.uniform(2.0, 6.0))
    signals = rng.random() < 0.65
    limit = rng.uniform(9.0, 18.0)
    for (i, a), (j, b) in permutations(enumerate(arms), 2):
        _movement(draft, (i, a), (j, b), signals, limit)
    draft.areas.append(_middle(arms))
    for i, arm in enumerate(arms):
        draft.street(arm.out, arm.street)
        draft.street(arm.into, arm.street)
        rule = 2 + i % 2 if signals else GAP
        draft.crossing(arm.out, 2, arm.street, rule, draft.per_hour(40, 300))
        draft.pavement(arm.out, arm.street, draft.per_hour(20, 150))
        draft.pavement(arm.into, arm.street, draft.per_hour(20, 150))
    phases: tuple[Phase, ...] = ()
    if signals:
        long, short = rng.uniform(14, 32), rng.uniform(10, 24)
        # Groups 0 and 1: vehicles of either axis; 2 and 3: those on foot across it, who go with the other
        # axis.
        phases = (
            Phase(5.0, (0, 3)),
            Phase(long, (0, 3)),
            Phase(5.0, (0,)),
            Phase(3.0, ()),
            Phase(short, (1, 2)),
            Phase(5.0, (1,)),
            Phase(3.0, ()),
        )
    return draft.world("junction", phases)


def _movement(
    draft: Draft, start: tuple[int, _Arm], end: tuple[int, _Arm], signals: bool, limit: float
) -> None:
    """The routes from one arm of a junction to another."""
    (i, a), (j, b) = start, end
    turn = math.remainder(b.angle - a.angle - math.pi, 2 * math.pi)  # to the left is positive
    side = "straight" if abs(turn) < 0.8 else "left" if turn > 0 else "right"
    first = 1.0 if signals or i % 2 == 0 else 0.0
    rank = first + {"straight": 0.0, "right": -0.1, "left": -0.4}[side]
    group = i % 2 if signals else NO_SIGNAL
    stop = ((len(a.into) - 4.0, group),) if signals or not first else ()
    name = f"{i} to {j}"
    share = {"straight": (100, 500), "right": (30, 200), "left": (30, 150)}[side]
    last = a.street.lanes - 1
    for number in {"straight": range(a.street.lanes), "left": (0,), "right": (last,)}[side]:
        goal = {"straight": min(number, b.street.lanes - 1), "left": 0, "right": b.street.lanes - 1}[side]
        line = joined(beside(a.into, a.street.lane(number)), beside(b.out, b.street.lane(goal)))
        draft.drive(f"{name} {number}", line, limit, draft.per_hour(*share), stops_m=stop, rank=rank)
    lane, onto = beside(a.into, a.street.bicycle), beside(b.out, b.street.bicycle)
    cycle = {"stops_m": stop, "rank": rank + 0.05, "left_m": 1.5, "right_m": 0.4}
    if side != "left":
        draft.ride(name, joined(lane, onto), draft.per_hour(40, 250), **cycle)
        if side == "right":
            return
        # Beside the road, over the crossings for those on foot.
        beside_road = joined(beside(a.into, a.street.pavement), beside(b.out, b.street.pavement))
        draft.ride(f"{name} beside", beside_road, draft.per_hour(5, 60), stops_m=stop, rank=rank - 0.05)
        return
    # To the left: over to the middle and with the cars, or straight on first and then with the others.
    ahead = np.arange(len(a.into))[::-1]
    slant = np.clip((draft.rng.uniform(40, 70) - ahead) / draft.rng.uniform(20, 35), 0.0, 1.0)
    offset = a.street.bicycle + (3 * slant**2 - 2 * slant**3) * (a.street.lane(0) - a.street.bicycle - 0.4)
    draft.ride(f"{name} direct", joined(beside(a.into, offset), onto), draft.per_hour(20, 150), **cycle)
    reach = 2 * len(b.out)  # straight on to the corner before the other street's far side
    past = a.into[-1] - a.into[-2]
    corner = lane[-1] + np.arange(1, int(np.hypot(*a.into[-1]) + abs(b.street.bicycle)) - 1)[:, None] * past
    wait = (len(lane) + len(corner) - 2.0, 1 - group if signals else NO_SIGNAL)
    hook = joined(np.concatenate([lane, corner])[:reach], onto, handle=0.5)
    draft.ride(f"{name} hook", hook, draft.per_hour(10, 80), stops_m=(*stop, wait)[:2], rank=rank - 0.3)


def roundabout(rng: Generator) -> World:
    """Three or four arms into a circle; who is in it goes first, those on foot before all."""
    draft = Draft(rng)
    radius = rng.uniform(9.0, 19.0)
    street = Street.draw(rng, lanes=1)
    arms = [_Arm.at(angle, street, radius + 9.0) for angle in _angles(rng, int(rng.choice((3, 4))))]
    limit = rng.uniform(9.0, 13.0)
    lead = rng.uniform(0.42, 0.6) * min(1.0, 13.0 / radius)
    for a, b in ((a, b) for a in arms for b in arms):
        sweep = math.remainder(b.angle - a.angle - math.pi, 2 * math.pi) + math.pi
        if sweep < 2.2 * lead:
            continue  # who turns round goes round once
        for kind, offset, ring in (
            ("drive", street.lane(0), radius),
            ("ride", street.bicycle, radius + rng.uniform(0.0, 1.8)),
        ):
            at = a.angle + np.linspace(lead, sweep - lead, max(4, int(radius * sweep)))
            arc = ring * np.stack([np.cos(at), np.sin(at)], axis=1)
            before = beside(a.into, offset)
            inner = joined(before, arc, 0.42)
            begins = len(resampled(inner)) - len(resampled(arc)) * 1.0
            whole = joined(inner, beside(b.out, offset), 0.42)
            ends = begins + ring * (sweep - 2 * lead)
            share = (5, 15) if a is b else (40, 250)
            getattr(draft, kind)(
                f"{a.angle:.1f} to {b.angle:.1f}",
                whole,
                *((limit,) if kind == "drive" else ()),
                draft.per_hour(*share),
                circulates=(begins - 3.0, ends),
            )
    draft.areas.append(_middle(arms))
    for arm in arms:
        draft.street(arm.out, street)
        draft.street(arm.into, street)
        draft.crossing(arm.out, 6, street, GAP, draft.per_hour(20, 200))
    turn = np.linspace(0.0, 2 * math.pi, 73)
    for ring in (radius - 3.0, radius + 3.5):
        draft.show("kerb", ring * np.stack([np.cos(turn), np.sin(turn)], axis=1))
    draft.standing.append(Standing(Label.UNKNOWN, 0.0, 0.0, 0.0, (3.0, 3.0, 3.0)))
    return draft.world("roundabout")
