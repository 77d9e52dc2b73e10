"""Families of places to simulate, each drawn at random: streets and squares here, and where streets meet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
from numpy.random import Generator

from data_tools.simulate.draft import Draft, Street
from data_tools.simulate.junctions import junction, roundabout
from data_tools.simulate.routes import NO_SIGNAL, beside, joined
from data_tools.simulate.walk import GAP, GO
from data_tools.simulate.world import EGO_PATH, Cast, Standing, World
from trajpred.lanes import Area
from trajpred.types import Float, Label


def straight(rng: Generator, parking: bool = False) -> World:
    """A street with or without bicycle lanes, crossings on foot, ways in and out."""
    draft = Draft(rng)
    street = Street.draw(rng, lanes=1 if parking else None, parking=parking)
    middle = _winding(rng, 260.0, 0.012)
    limit = rng.uniform(8.0, 11.0) if parking else rng.uniform(10.0, 20.0)
    crossings = [int(at) for at in rng.uniform(30, 230, int(rng.integers(1, 4)))]
    side_m = int(rng.uniform(90, 170))
    for name, line in (("there", middle), ("back", middle[::-1])):
        draft.street(line, street)
        taken = [
            side_m,
            len(middle) - side_m,
            *(at if name == "there" else len(middle) - at for at in crossings),
        ]
        for number in range(street.lanes):
            draft.drive(
                f"{name} {number}",
                beside(line, street.lane(number)),
                limit,
                draft.per_hour(80, 500),
                left_m=street.lane_m,
                right_m=street.lane_m if number + 1 < street.lanes else 0.3,
                next_lane_m=(-street.lane_m, street.lane_m)[number] if street.lanes > 1 else 0.0,
            )
        lane = beside(line, street.bicycle)
        room = {"left_m": 2.5, "right_m": 0.5}
        draft.ride(f"{name} bicycle", lane, draft.per_hour(80, 500), rank=0.2, **room)
        across = side_m
        side = beside(line[across - 1 : across + 2], -street.bicycle)[1]
        out = side - beside(line[across - 1 : across + 2], street.bicycle)[1]
        out /= np.hypot(*out)
        exit_line = side + 3.0 * out + np.linspace(0.0, 30.0, 31)[:, None] * out
        # Across the street to the left, from the edge or after moving to the middle first.
        slant = np.clip((np.arange(len(line)) - across + rng.uniform(35, 60)) / rng.uniform(20, 34), 0.0, 1.0)
        offset = street.bicycle + (3 * slant**2 - 2 * slant**3) * rng.choice((0.0, 1.0)) * (
            -street.bicycle - 0.9
        )
        draft.ride(
            f"{name} left",
            joined(beside(line, offset)[: across - 6], exit_line),
            draft.per_hour(20, 150),
            rank=-1.0,
        )
        # In from the right, and out to the right.
        entry = side - np.linspace(60.0, 0.0, 61)[:, None] * out - (2 * abs(street.bicycle) + 5.0) * out
        into = joined(entry, beside(line, street.bicycle)[across + 6 :])
        draft.ride(f"{name} in", into, draft.per_hour(10, 100), rank=-1.0, stops_m=((57.0, NO_SIGNAL),))
        draft.ride(f"{name} out", joined(lane[: across - 6], entry[:56][::-1]), draft.per_hour(10, 100))
        if rng.random() < 0.6:
            into = joined(entry, beside(line, street.lane(street.lanes - 1))[across + 9 :])
            draft.drive(f"{name} in", into, limit, draft.per_hour(10, 100), rank=-1.0)
            draft.drive(
                f"{name} out",
                joined(beside(line, street.lane(street.lanes - 1))[: across - 9], entry[:56][::-1]),
                limit,
                draft.per_hour(10, 100),
            )
        draft.pavement(line, street, draft.per_hour(40, 300))
        if parking:
            _parked(draft, line, street, limit, taken)
        elif rng.random() < 0.5:  # somebody stands in the way of cyclists
            _parked(
                draft,
                line,
                replace(street, bicycle_m=0.0, parking_m=0.0, lanes=street.lanes),
                limit,
                taken,
                0.03,
            )
    for at in crossings:
        draft.crossing(middle, at, street, GAP, draft.per_hour(30, 200))
    return draft.world("parking_street" if parking else "straight", whims=2.0)


def cyclist_cut_in(rng: Generator) -> World:
    """A street on which the cyclist ahead drifts into the lane of the car that comes from behind.

    The car itself is not there: it is for a planner to drive, along the line of kind EGO_PATH.
    """
    draft = Draft(rng)
    street = Street(1, rng.uniform(3.3, 3.6), rng.uniform(1.6, 2.0), 0.0, rng.uniform(2.0, 4.0))
    there = np.stack([np.arange(260.0), np.zeros(260)], axis=1)
    back = there[::-1]
    for line in (there, back):
        draft.street(line, street)
        draft.pavement(line, street, draft.per_hour(80, 300))
    draft.show(EGO_PATH, beside(there, street.lane(0)))
    draft.drive("oncoming", beside(back, street.lane(0)), 11.0, draft.per_hour(150, 400), left_m=0.3)
    edge = beside(there, street.bicycle)
    draft.ride("there", edge, 0.0, left_m=2.5)
    draft.ride("back", beside(back, street.bicycle), draft.per_hour(60, 200), left_m=1.0)
    draft.crossing(there, 200, street, GAP, 60.0)
    speed = rng.uniform(3.8, 5.2)
    actor = Cast(
        "there",
        along=rng.uniform(35.0, 45.0),
        speed=speed,
        home=0.0,
        shift_after_m=4.0 * speed,
        shift_by=rng.uniform(2.3, 2.9),
        slide=rng.uniform(0.5, 0.9),
    )
    return replace(draft.world("cyclist_cut_in", whims=0.0), cast=(actor,))


def parking_street(rng: Generator) -> World:
    """A narrow street with cars at both kerbs, some of which pull out."""
    return straight(rng, parking=True)


def _parked(
    draft: Draft, line: Float, street: Street, limit: float, taken: list[int], share: float = 0.7
) -> None:
    """Cars along the kerb but at places that are taken, and now and then one that pulls out."""
    rng = draft.rng
    row = beside(line, street.parking if street.parking_m else street.kerb - 0.4)
    for at in range(20, len(line) - 20, 7):
        if rng.random() > share or any(abs(at - other) < 10 for other in taken):
            continue
        way = math.atan2(*(row[at + 1] - row[at - 1])[::-1])
        if share > 0.5 and rng.random() < 0.12:
            leave = joined(row[at : at + 3], beside(line, street.lane(0))[at + 16 :])
            draft.drive(f"pull out {at}", leave, limit, 12.0, rank=-2.0, parked=True)
            continue
        van = rng.random() < 0.15
        draft.standing.append(
            Standing(
                Label.TRUCK if van else Label.CAR,
                row[at, 0] + rng.normal(scale=0.2),
                row[at, 1] + rng.normal(scale=0.1),
                way + rng.normal(scale=0.02) + (math.pi if rng.random() < 0.1 else 0.0),
                (6.2, 2.2, 2.6) if van else (rng.uniform(3.8, 4.9), rng.uniform(1.7, 1.9), 1.5),
            )
        )


def _winding(rng: Generator, length_m: float, bend_per_m: float) -> Float:
    """(P, 2) m: a line along +x whose curvature wanders."""
    steps = int(length_m)
    bend = np.cumsum(rng.normal(size=steps + 80))
    bend = np.convolve(bend - bend.mean(), np.hanning(81) / np.hanning(81).sum(), "valid")
    way = np.cumsum(bend / max(np.abs(bend).max(), 1e-9)) * bend_per_m * rng.uniform()
    way -= way.mean()
    return np.cumsum(np.stack([np.cos(way), np.sin(way)], axis=1), axis=0)


def shared_space(rng: Generator) -> World:
    """A square or a campus: everybody goes where they like, cyclists along curves."""
    draft = Draft(rng)
    half = rng.uniform(25.0, 45.0)
    turn = np.linspace(0.0, 2 * math.pi, 60, endpoint=False)
    draft.areas.append(Area("sidewalk", half * np.stack([np.cos(turn), np.sin(turn)], axis=1)))
    gates = [
        half * np.array([math.cos(a), math.sin(a)])
        for a in rng.uniform(0, 2 * math.pi, int(rng.integers(5, 9)))
    ]
    for _ in range(int(rng.integers(1, 5))):
        x, y = rng.uniform(-0.5 * half, 0.5 * half, 2)
        size = rng.uniform(1.0, 4.0)
        draft.standing.append(Standing(Label.UNKNOWN, x, y, rng.uniform(0, 3.0), (size, size, 1.0)))
    chosen = [(gates[i], gates[j]) for i, j in permutations(range(len(gates)), 2)]
    for number in rng.permutation(len(chosen)):
        start, end = (gate + rng.normal(scale=2.0, size=2) for gate in chosen[number])
        apart = np.hypot(*(end - start))
        if apart < 0.6 * half:
            continue
        way = (end - start) / apart
        bow = rng.normal(scale=0.25) * apart * np.array([-way[1], way[0]])
        middle = 0.5 * (start + end) + bow
        line = _bowed(start, middle, end)
        if rng.random() < 0.7:
            keeps_right = beside(line, -rng.uniform(0.3, 1.5))
            draft.ride(f"over {number}", keeps_right, draft.per_hour(15, 150), left_m=3.0, right_m=3.0)
        elif rng.random() < 0.1:
            draft.drive(f"over {number}", line, 4.0, 10.0, left_m=3.0, right_m=3.0)
        points = np.stack([start, middle + rng.normal(scale=4.0, size=2), end])
        draft.walk(points, (GO,) * 3, 4.0, draft.per_hour(15, 120))
    return draft.world("shared_space", whims=3.0)


def _bowed(start: Float, middle: Float, end: Float) -> Float:
    """(P, 2) m: from start through middle to end, with 15 m of run-up on either side."""
    way = (end - start) / np.hypot(*(end - start))
    step = np.arange(16.0)[:, None] * way
    through = middle + np.array([[-0.5], [0.5]]) * way
    return joined(joined(start + step - 15.0 * way, through), end + step)


LAYOUTS: dict[str, Callable[[Generator], World]] = {
    "cyclist_cut_in": cyclist_cut_in,
    "straight": straight,
    "parking_street": parking_street,
    "junction": junction,
    "roundabout": roundabout,
    "shared_space": shared_space,
}
