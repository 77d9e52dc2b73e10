"""Simulated traffic keeps to physics and to the rules, and comes out the same for the same seed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import shapely

from data_tools.cli import Scenario, main
from data_tools.simulate import drive, kinds
from data_tools.simulate.kinds import LATERAL_MAX_MPS2, WHEELS
from data_tools.simulate.layouts import LAYOUTS
from data_tools.simulate.record import record
from data_tools.simulate.routes import Route, beside, joined, network
from data_tools.simulate.traffic import Traffic, truth
from data_tools.simulate.walk import (
    ACCELERATION_MAX_MPS2,
    GAP,
    GO,
    SPEED_MAX_MPS,
    TURN_MAX_RPS,
    Way,
)
from data_tools.simulate.world import Phase, Standing, World
from trajpred.errors import InputError
from trajpred.lanes import Lanes
from trajpred.types import Label, Scene

STRAIGHT = np.stack([np.arange(0.0, 300.0), np.zeros(300)], axis=1)
STEP_S = 0.1


def world(*routes: Route, **more: object) -> World:
    return World("test", routes, (), Lanes((), ()), whims=0.0, **more)  # type: ignore[arg-type]


def tracks(scene: Scene) -> list[tuple[int, np.ndarray]]:
    """Of each id its label and rows, in order of time."""
    return [
        (int(scene.label[scene.ids == one][0]), np.flatnonzero(scene.ids == one))
        for one in np.unique(scene.ids)
    ]


@pytest.fixture(scope="module", params=list(LAYOUTS))
def scene(request: pytest.FixtureRequest) -> Scene:
    rng = np.random.default_rng(5)
    return truth(LAYOUTS[request.param](rng), 30.0, 10.0, rng)


def test_nobody_on_wheels_beats_physics(scene: Scene) -> None:
    """From positions and headings alone: the rear axle goes where it points."""
    kinds = {kind.label: kind for kind in WHEELS.values()}
    moved = 0
    for label, rows in tracks(scene):
        if label not in kinds or len(rows) < 5:
            continue
        kind = kinds[Label(label)]
        yaw = np.unwrap(scene.yaw[rows])
        axle = scene.xy[rows] - kind.axle_m * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        step = np.diff(axle, axis=0)
        way = np.hypot(*step.T)
        if way.max() < 0.01:
            continue  # parked
        moved += 1
        speed, turned = way / STEP_S, np.diff(yaw)
        assert speed.max() <= kind.cruise_mps[1] * 1.5
        middle = 0.5 * (yaw[1:] + yaw[:-1])
        sideways = step[:, 1] * np.cos(middle) - step[:, 0] * np.sin(middle)
        assert np.abs(sideways).max() < 0.01
        assert (np.abs(turned) <= way * kind.bend_max_per_m + 1e-9).all()  # at a standstill nothing turns
        assert (np.abs(turned) * speed / STEP_S <= LATERAL_MAX_MPS2 + 0.1).all()
        acceleration = np.diff(speed) / STEP_S
        assert acceleration.max() <= kind.accelerate_mps2[1] + 0.1
        assert acceleration.min() >= -kind.brake_max_mps2 - 0.1
    assert moved >= 3


def test_nobody_on_foot_beats_physics(scene: Scene) -> None:
    for label, rows in tracks(scene):
        if label != Label.PEDESTRIAN or len(rows) < 5:
            continue
        velocity = np.diff(scene.xy[rows], axis=0) / STEP_S
        assert np.hypot(*velocity.T).max() <= SPEED_MAX_MPS + 1e-6
        assert np.hypot(*np.diff(velocity, axis=0).T).max() / STEP_S <= ACCELERATION_MAX_MPS2 + 1e-6
        assert np.abs(np.diff(np.unwrap(scene.yaw[rows]))).max() / STEP_S <= TURN_MAX_RPS + 1e-6


def test_reported_velocity_is_that_of_the_centre(scene: Scene) -> None:
    for _, rows in tracks(scene):
        if len(rows) < 3:
            continue
        between = np.diff(scene.xy[rows], axis=0) / STEP_S
        said = 0.5 * (scene.velocity[rows][1:] + scene.velocity[rows][:-1])
        assert np.hypot(*(between - said).T).max() < 0.6


def test_those_on_wheels_hardly_ever_touch(scene: Scene) -> None:
    touching = seen = 0
    for frame in list(scene.frames())[::10]:
        wheels = np.isin(frame.label, [kind.label for kind in WHEELS.values()])
        moving = np.hypot(*frame.velocity.T) > 0.3
        boxes = []
        for (x, y), yaw, (length, width, _) in zip(frame.xy, frame.yaw, frame.size, strict=True):
            box = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
            turned = shapely.affinity.rotate(box, yaw, (0, 0), use_radians=True)
            boxes.append(shapely.affinity.translate(turned, x, y))
        for i in np.flatnonzero(wheels & moving):
            seen += 1
            touching += any(boxes[i].intersects(boxes[j]) for j in np.flatnonzero(wheels) if j != i)
    assert seen > 20
    assert touching <= 0.02 * seen


def play(made: World, seconds: float, seed: int = 0) -> Scene:
    return truth(made, seconds, 10.0, np.random.default_rng(seed))


def test_a_red_light_stops_them_before_the_line() -> None:
    route = Route("there", "car", STRAIGHT, 12.0, 900.0, stops_m=((200.0, 0),))
    scene = play(world(route, phases=(Phase(1000.0, ()),)), 60.0)
    front = scene.xy[:, 0] + scene.size[:, 0] / 2
    assert front.max() < 200.5
    assert front.max() > 197.0  # and not long before it


def test_green_lets_them_go() -> None:
    route = Route("there", "car", STRAIGHT, 12.0, 600.0, stops_m=((200.0, 0),))
    scene = play(world(route, phases=(Phase(1000.0, (0,)),)), 60.0)
    assert scene.xy[:, 0].max() > 280.0
    assert np.hypot(*scene.velocity.T).min() > 1.0


def test_a_cyclist_goes_round_what_stands_there() -> None:
    car = Standing(Label.CAR, 150.0, -0.8, 0.0, (4.5, 1.8, 1.5))
    route = Route("there", "bicycle", STRAIGHT, 12.0, 200.0, left_m=2.5, right_m=0.3)
    scene = play(world(route, standing=(car,)), 90.0)
    riders = scene.label == Label.BICYCLE
    beside = riders & (np.abs(scene.xy[:, 0] - 150.0) < 2.0)
    assert beside.any()
    # between the car's left side and the rider's right one there is air
    assert (scene.xy[beside, 1] - scene.size[beside, 1] / 2 > -0.8 + 0.9).all()
    assert np.hypot(*scene.velocity[beside].T).min() > 1.0
    beyond = riders & (scene.xy[:, 0] > 200.0)
    assert np.abs(scene.xy[beyond, 1]).mean() < 0.8  # and back again


def test_where_there_is_no_room_to_pass_one_waits() -> None:
    car = Standing(Label.CAR, 150.0, 0.0, 0.0, (4.5, 1.8, 1.5))
    scene = play(world(Route("there", "car", STRAIGHT, 12.0, 300.0), standing=(car,)), 15.0)
    driven = np.hypot(*scene.velocity.T) > 0.0
    assert (scene.xy[driven, 0] + scene.size[driven, 0] / 2).max() < 150.0 - 4.5 / 2


def test_the_lower_rank_waits_for_a_gap() -> None:
    across = np.stack([np.full(200, 150.0), np.arange(-100.0, 100.0)], axis=1)
    main_road = Route("main", "car", STRAIGHT, 12.0, 700.0, rank=1.0)
    side_road = Route("side", "car", across, 12.0, 300.0, rank=0.0)
    scene = play(world(main_road, side_road), 120.0)
    slowest = {"main": np.inf, "side": np.inf}
    crossed = 0
    for _, rows in tracks(scene):
        name = "main" if np.ptp(scene.xy[rows, 0]) > np.ptp(scene.xy[rows, 1]) else "side"
        near = np.hypot(*(scene.xy[rows] - (150.0, 0.0)).T) < 20.0
        if near.any():
            slowest[name] = min(slowest[name], float(np.hypot(*scene.velocity[rows][near].T).min()))
        crossed += name == "side" and bool((scene.xy[rows, 1] > 10.0).any())
    assert slowest["side"] < 0.5
    assert slowest["main"] > 3.0
    assert crossed > 2


def longest_s(still: np.ndarray) -> float:
    """The longest run of True, in s."""
    edges = np.flatnonzero(np.diff(np.r_[False, still, False].astype(int)))
    return float(np.diff(edges)[::2].max(initial=0)) * STEP_S


def test_nobody_stands_for_long_inside_a_junction() -> None:
    """Those with an engine keep moving in the middle, but for some who turn left and wait for a gap."""
    inside = standing = 0
    longest = [0.0]
    for seed in range(16):
        rng = np.random.default_rng(seed)
        made = replace(LAYOUTS["junction"](rng), whims=0.0)  # nobody stops there to look at a map
        middle = next(area.outline for area in made.lanes.areas if area.kind == "road")
        scene = truth(made, 40.0, 10.0, rng)
        motor = np.isin(scene.label, [Label.CAR, Label.TRUCK, Label.BUS, Label.MOTORCYCLE])
        within = motor & shapely.contains_xy(shapely.Polygon(middle).buffer(-1.0), *scene.xy.T)
        still = within & (np.hypot(*scene.velocity.T) < 0.1)
        inside, standing = inside + within.sum(), standing + still.sum()
        longest += [longest_s(still[scene.ids == one]) for one in np.unique(scene.ids[within])]
    assert len(longest) > 100
    assert standing <= 0.1 * inside
    assert max(longest) <= 20.0


ACROSS = np.stack([np.full(400, 150.0), np.arange(-100.0, 300.0)], axis=1)


def put(traffic: Traffic, route: int, along: float, cruise: float = 10.0) -> None:
    """Somebody without whims on a route, at its pace."""
    me = kinds.draw(traffic._world.routes[route].kind, 1, np.random.default_rng(len(traffic.agents)))
    me["route"], me["along"], me["cruise"], me["speed"], me["nerve"] = route, along, cruise, cruise, 1.5
    me["wander_m"] = me["home"] = 0.0
    drive.seated(me, traffic._net)
    traffic.agents = np.concatenate([traffic.agents, me])


def advance(traffic: Traffic, seconds: float) -> None:
    for _ in range(round(seconds / traffic.step_s)):
        traffic.advance()


def quiet(*routes: Route, **more: object) -> Traffic:
    """Traffic on routes on which nobody comes unless he is put there."""
    return Traffic(world(*routes, **more), np.random.default_rng(0))


@pytest.mark.parametrize(("broken_down_m", "enters"), [(158.0, False), (175.0, True)])
def test_nobody_enters_a_crossing_without_room_beyond_it(broken_down_m: float, enters: bool) -> None:
    """The other road is at 150 m; a car that stops behind one at 158 m would stand on it."""
    there = Route("there", "car", STRAIGHT, 12.0, 0.0, rank=1.0)
    traffic = quiet(there, Route("across", "car", ACROSS, 12.0, 0.0))
    put(traffic, 0, broken_down_m, cruise=0.0)
    traffic.agents["halt_at"], traffic.agents["halt_for"] = broken_down_m + 0.1, np.inf
    put(traffic, 0, 110.0)
    put(traffic, 1, 60.0)
    while traffic.agents["y"][2] < 5.0 and traffic.time_s < 20.0:
        advance(traffic, 0.5)
    _, second, across = traffic.agents
    assert across["y"] > 5.0
    assert (second["along"] > 150.0) == enters
    assert enters or second["along"] + second["axle"] + second["length"] / 2 < 149.0


def test_who_has_passed_is_not_waited_for() -> None:
    """Where two roads become one: he who gives way sets off once the other is past, not gone."""
    ramp = joined(np.array([(100.0, -40.0), (130.0, -15.0)]), STRAIGHT[160:])
    traffic = quiet(
        Route("there", "car", STRAIGHT, 12.0, 0.0, rank=1.0), Route("ramp", "car", ramp, 12.0, 0.0)
    )
    meet_in, meet_out = traffic._net.meet_in[1, 0], traffic._net.meet_out[1, 0]
    assert meet_out - meet_in < 15.0
    put(traffic, 0, 150.0)
    put(traffic, 1, meet_in - 8.0, cruise=5.0)
    advance(traffic, 8.0)
    assert traffic.agents["along"][1] > meet_out


def test_those_who_wait_for_each_other_are_found() -> None:
    """Whom one gives way to counts as well as whom one stands behind."""
    traffic = quiet(Route("there", "car", STRAIGHT, 12.0, 0.0))
    for along in (20.0, 60.0, 100.0):
        put(traffic, 0, along)
    traffic.agents["waited"] = 10.0
    at_red = np.zeros(3, bool)
    assert traffic._stuck(np.array([1, 0, 0]), at_red).tolist() == [True, False, False]
    assert not traffic._stuck(np.array([1, 2, -1]), at_red).any()


@pytest.mark.parametrize("taken", [False, True])
def test_behind_somebody_slower_the_next_lane_is_taken_if_it_is_free(taken: bool) -> None:
    traffic = quiet(
        Route("there", "car", STRAIGHT, 14.0, 0.0, next_lane_m=3.5),
        Route("beside", "car", beside(STRAIGHT, 3.5), 14.0, 0.0),
    )
    put(traffic, 0, 60.0, cruise=8.5)
    put(traffic, 0, 30.0, cruise=12.0)
    if taken:  # one is beside them, and as slow
        put(traffic, 1, 45.0, cruise=8.5)
    advance(traffic, 18.0)
    slow, quick = traffic.agents[:2]
    assert (quick["along"] > slow["along"]) != taken
    assert quick["aside"] == pytest.approx(0.0 if taken else 3.5, abs=0.5)


@pytest.mark.parametrize(("nerve", "looks"), [(2.0, True), (0.6, False)])
def test_a_cyclist_looks_over_the_shoulder_unless_careless(nerve: float, looks: bool) -> None:
    traffic = quiet(
        Route("edge", "bicycle", STRAIGHT, 12.0, 0.0, left_m=3.0),
        Route("lane", "car", beside(STRAIGHT, 2.5), 12.0, 0.0),
    )
    put(traffic, 0, 50.0, cruise=4.0)
    put(traffic, 1, 35.0)
    rider = traffic.agents[:1]
    rider["shift_at"], rider["shift_for"], rider["shift_by"], rider["nerve"] = 51.0, np.inf, 2.5, nerve
    advance(traffic, 1.0)
    assert (traffic.agents["shift_at"][0] > 51.0) == looks
    advance(traffic, 12.0)
    assert traffic.agents["aside"][0] == pytest.approx(2.5, abs=0.4)  # once the car has gone by


def test_into_a_roundabout_one_gives_way() -> None:
    turn = np.linspace(-math.pi, 0.9 * math.pi, 70)
    ring = 15.0 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    into = joined(np.array([(2.5, -60.0), (2.5, -22.0)]), ring[40:60])
    begins = 38.0 + 7.0
    net = network(
        (
            Route("round", "car", ring, 10.0, 0.0, circulates=(-20.0, 80.0)),
            Route("into", "car", into, 10.0, 0.0, circulates=(begins, 90.0)),
        )
    )
    assert abs(net.meet_in[1, 0] - begins) < 8.0
    assert net.gives_way.tolist() == [[False, False], [True, False]]


def test_to_the_left_in_two_goes_a_cyclist_waits_for_the_other_green() -> None:
    hook = joined(STRAIGHT[:150], np.array([(154.0, 4.0), (154.0, 60.0)]), handle=0.5)
    route = Route("hook", "bicycle", hook, 12.0, 500.0, stops_m=((100.0, 0), (145.0, 1)))
    waits = play(world(route, phases=(Phase(1000.0, (0,)), Phase(0.0, (1,)))), 60.0)
    front = waits.xy[:, 0] + waits.size[:, 0] / 2
    assert 143.0 < front.max() < 145.5
    assert play(world(route, phases=(Phase(1000.0, (0, 1)),)), 60.0).xy[:, 1].max() > 20.0


def test_some_on_foot_turn_back() -> None:
    way = Way(np.array([(0.0, 10.0), (50.0, 10.0), (100.0, 10.0)]), (GO,) * 3, 2.0, 0.0)
    empty = world(Route("there", "car", STRAIGHT, 12.0, 0.0))
    traffic = Traffic(replace(empty, ways=(way,)), np.random.default_rng(0))
    traffic._set_off(0, 0.0, 1)
    walker = traffic.walkers
    start = float(walker["x"][0])
    walker["stop_in"], walker["turn_in"] = np.inf, 5.0
    advance(traffic, 5.0)
    away = abs(float(traffic.walkers["x"][0]) - start)
    assert away > 2.0
    advance(traffic, 3.0)
    assert abs(float(traffic.walkers["x"][0]) - start) < away
    advance(traffic, 60.0)
    assert len(traffic.walkers) == 0  # home again


def test_followers_keep_the_gap_of_the_driver_model() -> None:
    """Behind somebody at v the model is at rest at a gap of (s0 + v T) / sqrt(1 - (v / v0)^4)."""
    traffic = Traffic(
        world(Route("there", "car", np.stack([np.arange(0.0, 3000.0), np.zeros(3000)], 1), 30.0, 0.0)),
        np.random.default_rng(0),
    )
    traffic._enter(0, 100.0)
    traffic._enter(0, 60.0)
    agents = traffic.agents
    agents["halt_at"] = np.inf
    agents["cruise"] = 6.0, 12.0
    agents["wander_m"] = agents["pace"] = agents["home"] = 0.0
    for _ in range(1200):
        traffic.advance()
        traffic.agents["pace"] = 0.0
    first, second = traffic.agents
    gap = first["along"] - second["along"] - (first["length"] + second["length"]) / 2
    v, v0 = float(second["speed"]), 12.0
    expected = (second["gap"] + v * second["headway"]) / math.sqrt(1 - (v / v0) ** 4)
    assert v == pytest.approx(6.0, abs=0.15)
    assert gap == pytest.approx(expected, rel=0.1)


def test_on_foot_across_the_road_only_at_green_or_in_a_gap() -> None:
    crossing = Way(
        np.array([(150.0, -8.0), (150.0, -4.0), (150.0, 4.0), (150.0, 8.0)]), (GO, 0, 0, GO), 2.0, 900.0
    )
    red = World(
        "test",
        (Route("there", "car", STRAIGHT, 12.0, 0.0),),
        (crossing,),
        Lanes((), ()),
        phases=(Phase(1e3, ()),),
    )
    scene = play(red, 4.0)  # shorter than anybody's patience, but for those who were there before
    inside = np.abs(scene.xy[:, 1]) < 3.0
    starts = {one for one in np.unique(scene.ids) if np.abs(scene.xy[scene.ids == one, 1]).min() > 3.0}
    assert len(starts) > 0
    empty = World(
        "test",
        (Route("there", "car", STRAIGHT, 12.0, 0.0),),
        (Way(crossing.points, (GO, GAP, GAP, GO), 2.0, 900.0),),
        Lanes((), ()),
    )
    assert np.abs(play(empty, 20.0).xy[:, 1]).min() < 1.0
    assert inside.mean() < 0.5


def test_a_curve_from_line_to_line_is_smooth() -> None:
    before = np.array([(0.0, 0.0), (10.0, 0.0)])
    after = np.array([(20.0, 10.0), (20.0, 20.0)])
    line = joined(before, after)
    way = np.unwrap(np.arctan2(*np.diff(line, axis=0).T[::-1]))
    assert way[0] == pytest.approx(0.0)
    assert way[-1] == pytest.approx(math.pi / 2)
    # Of a quarter turn in steps of half a metre: nearly an arc of 10 m.
    assert np.abs(np.diff(way)).max() < 0.12


def test_beside_is_to_the_left() -> None:
    np.testing.assert_allclose(beside(STRAIGHT, 2.0), STRAIGHT + np.array([0.0, 2.0]))


@pytest.mark.parametrize("scenario", list(LAYOUTS))
def test_same_seed_same_bytes(scenario: str, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        record(scenario, 3.0, seed).write(tmp_path / name)
    for file in ("tracks.mcap", "tracks.parquet", "truth.parquet", "tracks.lanes.geojson"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b
        assert a != c


def test_any_rate_has_the_same_steps(tmp_path: Path) -> None:
    for rate in (2.5, 10.0, 12.5, 30.0):
        stamps = np.unique(record("shared_space", 2.0, 1, rate).truth.scene.stamp_ns)
        np.testing.assert_allclose(np.diff(stamps), 1e9 / rate, atol=1)
        assert len(stamps) == round(2.0 * rate) + 1


def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made"
    words = ["simulate", "--scenario", "junction", "--seconds", "2", "--seed", "1", str(out)]
    assert main(words) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "tracks.lanes.geojson",
        "tracks.mcap",
        "tracks.parquet",
        "truth.parquet",
    ]
    capsys.readouterr()
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_the_command_knows_every_scenario() -> None:
    assert get_args(Scenario) == tuple(LAYOUTS)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="there are cyclist_cut_in, straight"):
        record("moon", 1.0, 0)
    with pytest.raises(InputError, match="moments a second"):
        record("straight", 1.0, 0, rate_hz=0.0)
