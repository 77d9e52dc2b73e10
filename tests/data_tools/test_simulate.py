"""Simulated traffic keeps to physics and to the rules, and comes out the same for the same seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import shapely

from data_tools.cli import Scenario, main
from data_tools.simulate.kinds import LATERAL_MAX_MPS2, WHEELS
from data_tools.simulate.layouts import LAYOUTS
from data_tools.simulate.record import record
from data_tools.simulate.routes import Route, beside, joined
from data_tools.simulate.traffic import Traffic, truth
from data_tools.simulate.walk import GAP, GO, Way
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
        assert np.hypot(*velocity.T).max() <= 4.5 + 1e-6
        assert np.hypot(*np.diff(velocity, axis=0).T).max() / STEP_S <= 3.5 / 0.3  # a stop within one step


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
