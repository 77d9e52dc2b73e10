"""Scores against hand computation, a slow reference, analytic standard errors and a recording."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajpred.config import Protocol
from trajpred.errors import InputError
from trajpred.geometry import rotate
from trajpred.metrics import (
    HORIZON_ERRORS,
    INTERVALS,
    LENGTHS,
    METRICS,
    AgentScores,
    Batch,
    MotionType,
    average_error,
    best_of,
    bootstrap_interval,
    brier_min_fde,
    displacement,
    final_error,
    is_moving,
    largest_error,
    last_step,
    motion_type,
    score,
    summarise,
    true_heading,
    true_speed,
    true_turn,
    waymo_miss,
)
from trajpred.types import Label, Scene, ids_from_int
from trajpred.windows import cut


def make_batch(paths, truth, **known) -> Batch:
    """A batch from (N, K, T, 2) paths and (N, T, 2) truth; what is not given is plain."""
    paths, truth = np.asarray(paths, float), np.asarray(truth, float)
    n, k, t, _ = paths.shape
    plain = {
        "probability": np.full((n, k), 1 / k),
        "mode_valid": np.ones((n, k), bool),
        "spread": np.ones((n, k, t)),
        "single": np.nan_to_num(paths[:, 0]),
        "truth_valid": np.ones((n, t), bool),
        "offset_s": np.arange(1.0, t + 1),
        "start": np.zeros((n, 2)),
        "origin": np.zeros((n, 2)),
        "heading": np.zeros(n),
        "speed": np.full(n, 20.0),
        "label": np.full(n, Label.CAR, np.uint8),
        "track": np.arange(n),
        "m_per_px": np.full(n, np.nan),
    }
    known = {name: np.asarray(value, plain[name].dtype) for name, value in known.items()}
    return Batch(paths=paths, truth=truth, **{**plain, **known})


def random_batch(rng: np.random.Generator, n: int, k: int, t: int) -> Batch:
    """Agents with holes in modes and truth; what a mask hides is NaN, where it is not probability."""
    mode_valid = rng.random((n, k)) < 0.7
    mode_valid[np.arange(n), rng.integers(k, size=n)] = True
    truth_valid = rng.random((n, t)) < rng.uniform(0.2, 1.0)
    paths = np.cumsum(rng.normal(size=(n, k, t, 2)), axis=2)
    truth = np.cumsum(rng.normal(size=(n, t, 2)), axis=1)
    paths[~mode_valid], truth[~truth_valid] = np.nan, np.nan
    return make_batch(
        paths,
        truth,
        probability=rng.dirichlet(np.full(k, 0.5), n) + 1e-6,
        mode_valid=mode_valid,
        truth_valid=truth_valid,
        spread=np.where(mode_valid[..., None], rng.uniform(0.0, 2.0, (n, k, t)), np.nan),
        offset_s=np.cumsum(rng.uniform(0.1, 1.0, t)),
        start=rng.normal(size=(n, 2)),
        origin=rng.normal(size=(n, 2)),
        heading=rng.uniform(-math.pi, math.pi, n),
        speed=rng.uniform(0.0, 15.0, n),
        label=rng.choice([Label.CAR, Label.BICYCLE, Label.PEDESTRIAN], n),
        track=rng.integers(0, 3, n),
        m_per_px=np.where(rng.random(n) < 0.5, np.nan, 0.04),
    )


def slow_scores(batch: Batch, i: int) -> dict[str, float]:
    """All metrics of one agent but coverage, written down step by step from the definitions."""
    steps = [t for t in range(len(batch.offset_s)) if batch.truth_valid[i, t]]
    modes = [k for k in range(batch.paths.shape[1]) if batch.mode_valid[i, k]]
    modes.sort(key=lambda k: -batch.probability[i, k])
    total = sum(batch.probability[i, k] for k in modes)
    p = [batch.probability[i, k] / total for k in modes]
    off = [[math.dist(batch.paths[i, k, t], batch.truth[i, t]) for t in steps] for k in modes]
    ade = [sum(row) / len(row) for row in off]
    fde = [row[-1] for row in off]
    single = [math.dist(batch.single[i, t], batch.truth[i, t]) for t in steps]
    found = {"ade_1": ade[0], "fde_1": fde[0], "ade_single": sum(single) / len(single)}
    found["fde_single"] = single[-1]
    for k in (5, 6, 10, 20):
        found[f"min_ade_{k}"], found[f"min_fde_{k}"] = min(ade[:k]), min(fde[:k])
    found["miss_rate_av2"] = float(all(f > 2.0 for f in fde[:6]))
    for k in (5, 10):
        found[f"miss_rate_nuscenes_{k}"] = float(all(max(row) > 2.0 for row in off[:k]))
    best = min(range(len(modes[:6])), key=lambda m: fde[m])
    found["brier_min_fde"] = fde[best] + (1 - p[best] / sum(p[:6])) ** 2

    heading, point, time = batch.heading[i], batch.origin[i], 0.0
    for t in steps:
        step = batch.truth[i, t] - point
        if math.hypot(*step) > 0.3 * (batch.offset_s[t] - time):
            heading = math.atan2(step[1], step[0])
        point, time = batch.truth[i, t], batch.offset_s[t]
    horizon, speed = time, batch.speed[i]
    lateral = (
        1.0 if horizon <= 3 else 1.0 + 0.4 * (horizon - 3) if horizon <= 5 else 1.8 + 0.4 * (horizon - 5)
    )
    lateral = min(lateral, 3.0) * (0.5 if speed < 1.4 else min(1.0, 0.5 + 0.5 * (speed - 1.4) / 9.6))
    missed = True
    for k in modes[:6]:
        delta = complex(*(batch.paths[i, k, steps[-1]] - point)) * complex(
            math.cos(heading), -math.sin(heading)
        )
        missed = missed and (abs(delta.imag) > lateral or abs(delta.real) > 2 * lateral)
    found["miss_rate_waymo"] = float(missed)

    found["nll"] = 0.0
    for n, t in enumerate(steps):
        logs = []
        for m, k in enumerate(modes):
            spread = max(batch.spread[i, k, t], 0.01)
            logs.append(math.log(p[m] / (2 * math.pi * spread**2)) - off[m][n] ** 2 / (2 * spread**2))
        found["nll"] -= (max(logs) + math.log(sum(math.exp(x - max(logs)) for x in logs))) / len(steps)
    return found


BATCHES = st.builds(
    lambda seed, n, k, t: random_batch(np.random.default_rng(seed), n, k, t),
    st.integers(0, 2**32 - 1),
    st.integers(1, 8),
    st.integers(1, 24),
    st.integers(1, 18),
)


def test_small_functions_by_hand():
    # The path is off by (3, 4) -> 5, (0, 1) -> 1 and (0, 0) -> 0; the last true position is not known.
    distance = displacement(np.array([[[[3, 4], [1, 2], [7, 7]]]]), np.array([[[0, 0], [1, 1], [7, 7]]]))
    valid = np.array([[True, True, False]])
    assert distance.tolist() == [[[5.0, 1.0, 0.0]]]
    assert average_error(distance, valid).tolist() == [[3.0]]
    assert final_error(distance, valid).tolist() == [[1.0]]
    assert largest_error(distance, valid).tolist() == [[5.0]]
    assert last_step(np.array([[True, False, True, False], [True, False, False, False]])).tolist() == [
        2,
        0,
    ]
    assert best_of(np.array([[3.0, 1.0, 0.5]]), 2).tolist() == [1.0]
    assert best_of(np.array([[3.0, 1.0, 0.5]]), 20).tolist() == [0.5]
    assert is_moving(np.zeros((2, 2)), np.array([[2.0, 0.0], [1.5, 1.5]])).tolist() == [False, True]


def test_every_metric_of_one_agent_by_hand():
    # The truth goes along x at 2 m/s. Most probable: 3 m to the left all along. Second: 1 m to the
    # left, then 1.5 m ahead. Third, and least probable: 4 m behind, then on the point.
    truth = [[[2, 0], [4, 0]]]
    paths = [[[[2, 1], [5.5, 0]], [[-2, 0], [4, 0]], [[2, 3], [4, 3]]]]
    batch = make_batch(paths, truth, probability=[[0.3, 0.2, 0.5]], m_per_px=[0.5])
    metrics = summarise(score(batch), bootstrap=0)["metrics"]
    # ADE 3, (1 + 1.5) / 2 and (4 + 0) / 2; FDE 3, 1.5 and 0
    assert metrics["ade_1"] == 3.0
    assert metrics["fde_1"] == 3.0
    assert all(metrics[f"min_ade_{k}"] == 1.25 for k in (5, 6, 10, 20))
    assert all(metrics[f"min_fde_{k}"] == 0.0 for k in (5, 6, 10, 20))
    assert metrics["miss_rate_av2"] == 0.0  # the third ends on the point
    assert metrics["miss_rate_nuscenes_5"] == 0.0  # the second is never farther off than 1.5
    assert metrics["miss_rate_waymo"] == 0.0
    assert metrics["brier_min_fde"] == pytest.approx(0.0 + (1 - 0.2) ** 2)
    first = 0.3 * math.exp(-0.5) + 0.2 * math.exp(-8) + 0.5 * math.exp(-4.5)
    second = 0.3 * math.exp(-1.125) + 0.2 + 0.5 * math.exp(-4.5)
    assert metrics["nll"] == pytest.approx(math.log(2 * math.pi) - math.log(first * second) / 2)
    # closest by ADE is the mode of 0.3: (|1 - 0.3| + |0 - 0.2| + |0 - 0.5|) / 3
    assert metrics["calibration_error"] == pytest.approx(1.4 / 3)


@given(BATCHES)
def test_agrees_with_the_slow_reference(batch):
    scores = score(batch)
    known = np.flatnonzero(batch.truth_valid.any(axis=1))
    assert len(scores) == len(known)
    assert scores.excluded == len(batch) - len(known)
    assert np.array_equal(scores.track, batch.track[known])
    for row, i in enumerate(known):
        expected = slow_scores(batch, i)
        found = dict(zip(METRICS, scores.values[row], strict=True))
        assert found.keys() - expected.keys() == {"coverage_50", "coverage_90"}
        assert {name: found[name] for name in expected} == pytest.approx(expected)


@settings(max_examples=30)
@given(BATCHES, st.randoms(use_true_random=False))
def test_neither_the_cut_into_batches_nor_the_order_of_modes_matters(batch, random):
    whole = score(batch)
    parts = [score(batch.take(slice(start, start + 3))) for start in range(0, len(batch), 3)]
    order = random.sample(range(batch.paths.shape[1]), batch.paths.shape[1])
    names = ("paths", "probability", "mode_valid", "spread")
    shuffled = score(replace(batch, **{name: getattr(batch, name)[:, order] for name in names}))
    joined = AgentScores.concatenate(parts)
    assert joined.excluded == whole.excluded
    assert np.allclose(joined.values, whole.values)
    assert np.allclose(joined.horizon_error, whole.horizon_error)
    assert np.allclose(shuffled.values, whole.values)


def test_more_agents_than_are_scored_at_once():
    batch = random_batch(np.random.default_rng(5), 1300, 3, 4)
    parts = [score(batch.take(slice(start, start + 100))) for start in range(0, 1300, 100)]
    assert np.allclose(score(batch).values, AgentScores.concatenate(parts).values)


def test_a_single_path_is_its_own_best_of_any_k():
    rng = np.random.default_rng(0)
    metrics = summarise(score(random_batch(rng, 20, 1, 12)), bootstrap=0)["metrics"]
    assert all(metrics[f"min_ade_{k}"] == metrics["ade_1"] for k in (5, 6, 10, 20))
    assert all(metrics[f"min_fde_{k}"] == metrics["fde_1"] for k in (5, 6, 10, 20))
    assert metrics["brier_min_fde"] == metrics["fde_1"]
    assert metrics["calibration_error"] == 0.0


def test_best_of_k_counts_the_most_probable_valid_modes():
    # Twelve modes end 12, 11, ... 1 m off, the worst the most probable; the 11 m one is not valid.
    paths = np.arange(12.0, 0.0, -1.0).reshape(1, 12, 1, 1) * [1.0, 0.0]
    valid = np.ones((1, 12), bool)
    valid[0, 1] = False
    batch = make_batch(paths, np.zeros((1, 1, 2)), probability=[np.arange(12.0, 0.0, -1.0)], mode_valid=valid)
    metrics = summarise(score(batch), bootstrap=0)["metrics"]
    # valid by rank: 12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1
    found = [metrics[name] for name in ("fde_1", "min_fde_5", "min_fde_6", "min_fde_10", "min_fde_20")]
    assert found == [12.0, 7.0, 6.0, 2.0, 1.0]


def test_an_invalid_mode_never_counts_even_if_perfect_and_certain():
    paths = [[[[0, 0]], [[3, 0]]]]
    batch = make_batch(paths, [[[0, 0]]], probability=[[0.9, 0.1]], mode_valid=[[False, True]])
    metrics = summarise(score(batch), bootstrap=0)["metrics"]
    assert metrics["ade_1"] == metrics["min_fde_20"] == metrics["brier_min_fde"] == 3.0
    assert metrics["miss_rate_av2"] == metrics["miss_rate_waymo"] == 1.0
    # the other one's probability is 1: N((3, 0); 0, I)
    assert metrics["nll"] == pytest.approx(4.5 + math.log(2 * math.pi))


def test_brier_scales_the_probabilities_of_the_six_kept():
    # Eight equal modes; the best of the first six, 1 m off, has 1/6 of what was kept: 1 + (5/6)^2.
    paths = np.array([4.0, 3.0, 1.0, 5.0, 6.0, 7.0, 0.0, 0.0]).reshape(1, 8, 1, 1) * [1.0, 0.0]
    batch = make_batch(paths, np.zeros((1, 1, 2)))
    assert score(batch).column("brier_min_fde") == pytest.approx(1 + 25 / 36)
    assert brier_min_fde(np.array([[2.0, 1.0]]), np.array([[0.3, 0.1]])) == pytest.approx(1 + 0.75**2)


@pytest.mark.parametrize(
    ("seconds", "errors", "missed"),
    [
        # at the last of two steps; (AV2, nuScenes, Waymo); the truth goes along x, fast
        (3.0, [(0, 0), (0, 1.5)], (0, 0, 1)),  # 1.5 m aside at 3 s: more than Waymo's 1.0
        (3.0, [(0, 3), (0, 0)], (0, 1, 0)),  # 3 m off on the way, right at the end
        (8.0, [(0, 0), (5, 0)], (1, 1, 0)),  # 5 m too far at 8 s: less than Waymo's 6.0
        (8.0, [(0, 0), (5, 3.5)], (1, 1, 1)),
        (8.0, [(0, 0), (1, 1)], (0, 0, 0)),
    ],
)
def test_the_three_misses_differ(seconds, errors, missed):
    truth = np.array([[[10.0, 0.0], [20.0, 0.0]]])
    batch = make_batch((truth + errors)[:, None], truth, offset_s=[seconds / 2, seconds])
    scores = score(batch)
    names = ("miss_rate_av2", "miss_rate_nuscenes_5", "miss_rate_waymo")
    assert tuple(scores.column(name)[0] for name in names) == missed


@pytest.mark.parametrize(
    ("horizon_s", "speed", "lateral", "longitudinal"),
    [
        (3.0, 11.0, 1.0, 2.0),
        (4.0, 20.0, 1.4, 2.8),  # half way between 3 and 5 s
        (5.0, 11.0, 1.8, 3.6),
        (8.0, 11.0, 3.0, 6.0),
        (0.5, 11.0, 1.0, 2.0),
        (12.0, 11.0, 3.0, 6.0),
        (8.0, 1.4, 1.5, 3.0),  # halved for the slow
        (8.0, 0.0, 1.5, 3.0),
        (8.0, 6.2, 2.25, 4.5),  # half way between 1.4 and 11 m/s: 0.75
    ],
)
def test_waymo_thresholds(horizon_s, speed, lateral, longitudinal):
    # The truth heads along y: ahead is +y, to the left is -x.
    delta = np.array([[[0, longitudinal], [0, -longitudinal], [lateral, 0], [-lateral, longitudinal]]])
    arguments = np.array([math.pi / 2]), np.array([horizon_s]), np.array([speed])
    assert not waymo_miss(delta * 0.999, *arguments).any()
    assert waymo_miss(delta * 1.001, *arguments).all()


def test_heading_of_the_truth_is_that_of_its_last_movement():
    truth = [
        [[1, 0], [1, 1], [1.1, 1]],  # 0.1 m in 1 s is standing
        [[1, 0], [9, 9], [1, 2]],  # the middle is not known: (0, 2) in 2 s
        [[0.1, 0], [0.2, 0], [0.3, 0]],  # never moves
        [[9, 9], [0.5, 0], [0.5, 0]],  # 0.5 m in 2 s is too slow
    ]
    valid = [[True, True, True], [True, False, True], [True, True, True], [False, True, True]]
    batch = make_batch(np.zeros((4, 1, 3, 2)), truth, truth_valid=valid, heading=[0.0, 0.0, 2.0, 3.0])
    assert true_heading(batch) == pytest.approx([math.pi / 2, math.pi / 2, 2.0, 3.0])


def along_x(*x: float) -> list[list[float]]:
    return [[position, 0.0] for position in x]


def motion_of(truth, step_s: float, **known) -> MotionType:
    """The type of one agent from its T true positions in m, step_s apart; None is not known."""
    valid = [point is not None for point in truth]
    filled = [[np.nan, np.nan] if point is None else point for point in truth]
    offset_s = step_s * np.arange(1, len(truth) + 1)
    known = {name: [value] for name, value in known.items()}
    batch = make_batch(
        np.zeros((1, 1, len(truth), 2)), [filled], truth_valid=[valid], offset_s=offset_s, **known
    )
    return MotionType(motion_type(batch)[0])


ROUND_THE_CORNER = [[1, 0], [2, 0], [3, 0], [3, 1], [3, 2]]


@pytest.mark.parametrize(
    ("truth", "step_s", "known", "expected"),
    [
        (along_x(1, 2, 3, 4), 1.0, {"speed": 1.0}, "MOVING"),
        (along_x(-1, -2, -3, -4), 1.0, {"speed": 1.0}, "MOVING"),  # reverses: its heading is no matter
        ([[1, 0], [2, 0.4], [3, 1], [4, 1.4]], 1.0, {"speed": 1.0}, "MOVING"),  # bends by 22 degrees
        ([[1, 0], [2, 1], [3, 2], [4, 2]], 1.0, {"speed": 1.0}, "MOVING"),  # to the next lane
        (along_x(0.1), 0.1, {"speed": 1.0}, "MOVING"),  # all that is known, too short for a direction
        ([None, None, [3, 0], None], 1.0, {"speed": 1.0}, "MOVING"),
        (along_x(0.3, 0.9, 1.9, 3.4), 1.0, {"speed": 0.0}, "STARTING"),
        (ROUND_THE_CORNER, 1.0, {"speed": 0.2}, "STARTING"),
        (along_x(0, 0, 0, 0.6), 1.0, {"speed": 0.0}, "STARTING"),
        (along_x(1, 3, 4, 4.1), 1.0, {"speed": 0.0}, "STARTING"),  # and stands again at the end
        (along_x(1, 3, 1, 0, 0), 1.0, {"speed": 0.0}, "STARTING"),  # there and back
        (along_x(1.3, 1.9, 2.2, 2.2), 1.0, {"speed": 1.5}, "STOPPING"),
        ([[1, 0], [1.5, 1], [1.5, 1.2], [1.5, 1.2]], 1.0, {"speed": 1.5}, "STOPPING"),  # in a turn
        ([[1, 0], None, [1.5, 0], None], 1.0, {"speed": 1.5}, "STOPPING"),
        (along_x(0, 0, 0, 0), 1.0, {"speed": 0.0}, "WAITING"),
        (along_x(0.4, 0.8, 0.4, 0.8), 1.0, {"speed": 0.3}, "WAITING"),
        (along_x(0, 0, 0, 0), 1.0, {"speed": 0.0, "start": [-9.0, 0.0]}, "WAITING"),  # walked up before
        (along_x(0.2, 0.2, 0.2, 0.2), 0.4, {"speed": 1.0}, "WAITING"),  # the last bit of a stop
        (along_x(0, 0.05, 0, 0.25), 0.4, {"speed": 0.0}, "WAITING"),  # noise at the end
        (ROUND_THE_CORNER, 1.0, {"speed": 1.0}, "TURNING"),
        ([[x, -y] for x, y in ROUND_THE_CORNER], 1.0, {"speed": 1.0}, "TURNING"),
        ([[1, 0], None, [3, 0], None, [3, 2]], 1.0, {"speed": 1.0}, "TURNING"),
        (along_x(1, 2, 1, 0), 1.0, {"speed": 1.0}, "TURNING"),  # back
        # it is never 1 m from here, so that the heading says where it sets out to
        (along_x(0.7, -0.6), 1.0, {"speed": 1.0, "heading": 0.0}, "TURNING"),
        (along_x(0.7, -0.6), 1.0, {"speed": 1.0, "heading": math.pi}, "MOVING"),
        (along_x(0.4, 0.8, 1.2, 1.6, 2.0, 2.4), 1.0, {"speed": 0.4}, "MOVING"),  # creeps all along
        # seen for the first time, at 1.3 m/s: its speed is not known yet
        (along_x(*(0.13 * np.arange(1, 20))), 0.1, {"speed": 0.0}, "MOVING"),
    ],
)
def test_types_of_motion_by_hand(truth, step_s, known, expected):
    assert motion_of(truth, step_s, **known).name == expected


def test_a_tracker_s_noise_is_neither_a_start_nor_a_turn():
    # 10 Hz, 3 cm of noise: from one position to the next that is 0.5 m/s.
    rng = np.random.default_rng(11)
    noise = rng.normal(scale=0.03, size=(400, 40, 2))
    walk = 0.1 * np.arange(1, 41)[:, None] * [1.3, 0.0]
    truth = np.concatenate([noise[:200], walk + noise[200:]])
    speed = np.append(np.hypot(*rng.normal(scale=0.42, size=(2, 200))), np.full(200, 1.3))
    batch = make_batch(np.zeros((400, 1, 40, 2)), truth, speed=speed, offset_s=0.1 * np.arange(1, 41))
    assert (motion_type(batch) == np.repeat([MotionType.WAITING, MotionType.MOVING], 200)).all()


def test_true_speed_and_turn_by_hand():
    truth = [[[0.1, 0], [0.4, 0], [9, 9], [1.0, 0], [1.0, 0.3]], [[9, 9], [0, 2], [9, 9], [-2, 2], [9, 9]]]
    valid = [[True, True, False, True, True], [False, True, False, True, False]]
    offset_s = [0.1, 0.4, 0.5, 1.0, 1.3]
    batch = make_batch(np.zeros((2, 1, 5, 2)), truth, truth_valid=valid, offset_s=offset_s)
    # from 0 s to 0.1 s and to 0.4 s, from 0.4 s to 1.0 s, and from there, 0.3 s are too little, to 1.3 s
    last = math.hypot(0.6, 0.3) / 0.9
    assert true_speed(batch) == pytest.approx(np.array([[1.0, 1.0, 0, 1.0, last], [0, 5.0, 0, 2 / 0.6, 0]]))
    # to (1, 0), and to (1, 0.3) from (0, 0); to the left from the way to (0, 2)
    assert true_turn(batch) == pytest.approx([math.atan2(0.3, 1.0), math.pi / 2])


def random_motions(rng: np.random.Generator, n: int, t: int) -> Batch:
    """Agents that change between standing and going, and some turn, with holes and irregular steps."""
    offset_s = np.cumsum(rng.uniform(0.05, 1.0, t))
    share = offset_s / offset_s[-1]
    first, last = rng.choice([0.0, 0.3, 1.0, 4.0], (2, n, 1))
    angle = rng.uniform(-math.pi, math.pi, (n, 1)) + rng.choice([0.0, 0.2, 1.5], (n, 1)) * share
    pace = (first + (last - first) * share) * np.diff(offset_s, prepend=0.0)
    origin = rng.normal(scale=10.0, size=(n, 2))
    steps = pace[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=2)
    truth_valid = rng.random((n, t)) < rng.uniform(0.2, 1.0)
    truth = origin[:, None] + np.cumsum(steps, axis=1) + rng.normal(scale=0.03, size=(n, t, 2))
    return make_batch(
        np.zeros((n, 1, t, 2)),
        np.where(truth_valid[..., None], truth, np.nan),
        truth_valid=truth_valid,
        offset_s=offset_s,
        start=origin - rng.normal(size=(n, 2)),
        origin=origin,
        heading=rng.uniform(-math.pi, math.pi, n),
        speed=np.abs(first[:, 0] + rng.normal(scale=0.1, size=n)),
    )


MOTIONS = st.builds(
    lambda seed, n, t: random_motions(np.random.default_rng(seed), n, t),
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 18),
)


@given(MOTIONS)
def test_every_agent_has_exactly_one_type_of_motion(batch):
    scores = score(batch)
    if not len(scores):
        return
    groups = summarise(scores, bootstrap=0)["per_motion"]
    assert groups.keys() <= {motion.name.lower() for motion in MotionType}
    assert sum(group["n"] for group in groups.values()) == len(scores)
    for name, group in groups.items():
        rows = scores.motion == MotionType[name.upper()]
        assert group["n"] == rows.sum() > 0
        assert group["fde_1"] == pytest.approx(scores.column("fde_1")[rows].mean())


def test_every_type_of_motion_occurs_among_the_random_ones():
    types = motion_type(random_motions(np.random.default_rng(0), 200, 12))
    assert set(types.tolist()) == set(MotionType)


@given(MOTIONS, st.floats(-math.pi, math.pi), st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)))
def test_the_type_of_motion_is_the_same_wherever_and_whichever_way(batch, angle, shift):
    batch = batch.take(batch.truth_valid.any(axis=1))
    moved = {name: rotate(getattr(batch, name), angle) + shift for name in ("truth", "start", "origin")}
    elsewhere = replace(batch, heading=batch.heading + angle, **moved)
    assert np.array_equal(motion_type(elsewhere), motion_type(batch))


@given(MOTIONS)
def test_what_was_predicted_and_what_is_not_known_are_no_matter_for_the_type_of_motion(batch):
    batch = batch.take(batch.truth_valid.any(axis=1))
    rng = np.random.default_rng(0)
    other = replace(
        batch,
        paths=rng.normal(size=batch.paths.shape),
        single=rng.normal(size=batch.single.shape),
        start=rng.normal(size=batch.start.shape),
        truth=np.where(batch.truth_valid[..., None], batch.truth, 1e3),
    )
    assert np.array_equal(motion_type(other), motion_type(batch))


def test_groups_pixels_and_horizons():
    # A car that goes 10 m, a pedestrian that waits; the pedestrian was annotated at 0.1 m per pixel
    # and its last position is not known.
    truth = [[[5, 0], [10, 0]], [[1, 0], [0, 0]]]
    paths = [[[[5, 1], [10, 3]]], [[[1, 2], [50, 50]]]]
    summary = summarise(
        score(
            make_batch(
                paths,
                truth,
                truth_valid=[[True, True], [True, False]],
                label=[Label.CAR, Label.PEDESTRIAN],
                m_per_px=[np.nan, 0.1],
                offset_s=[0.4, 1.2],
            )
        ),
        bootstrap=10,
    )
    assert summary["n"] == 2
    assert summary["metrics"]["ade_1"] == (2.0 + 2.0) / 2
    assert summary["metrics"]["fde_1"] == (3.0 + 2.0) / 2
    assert summary["per_class"].keys() == {"car", "pedestrian"}
    assert summary["per_class"]["pedestrian"]["n"] == 1
    assert summary["per_class"]["pedestrian"]["fde_1"] == 2.0
    assert summary["moving"]["n"] == summary["waiting"]["n"] == 1
    assert summary["moving"]["fde_1"] == 3.0
    assert summary["waiting"]["fde_1"] == 2.0
    assert summary["moving"].keys() == {"n", "calibration_error", *METRICS}
    assert summary["per_motion"] == {"moving": {"n": 2, **summary["metrics"]}}  # 1 m in 0.4 s is fast
    assert summary["pixels"] == {"n": 1, **dict.fromkeys(LENGTHS, pytest.approx(20.0))}
    assert summary["per_horizon"] == {
        "0.4": {"n": 2, **dict.fromkeys(HORIZON_ERRORS, 1.5)},
        "1.2": {"n": 1, **dict.fromkeys(HORIZON_ERRORS, 3.0)},
    }
    assert set(summary["interval"]) == set(INTERVALS)


def test_best_of_k_at_a_horizon_is_chosen_there():
    # Eight equal modes: mode k is k + 1 m off at first and 8 - k m off at last.
    near, far = np.arange(1.0, 9.0), np.arange(8.0, 0.0, -1.0)
    paths = np.stack([near, far], axis=1).reshape(1, 8, 2, 1) * [0.0, 1.0]
    table = summarise(score(make_batch(paths, np.zeros((1, 2, 2)))), bootstrap=0)["per_horizon"]
    names = ("n", "error_single", "error_1", "min_error_6", "min_error_20")
    assert table["1.0"] == dict(zip(names, (1, 1.0, 1.0, 1.0, 1.0), strict=True))
    assert table["2.0"] == dict(zip(names, (1, 8.0, 8.0, 3.0, 1.0), strict=True))


@pytest.mark.parametrize(
    ("offset_s", "expected"),
    [
        (np.arange(1, 13) * 0.4, [round(0.4 * i, 1) for i in range(1, 13)]),
        (np.arange(1, 31) * 0.1, [1.0, 2.0, 3.0]),
        (np.arange(1, 17) * 0.5, [0.5 * i for i in range(1, 17)]),
        (np.arange(1, 22) * 0.3, [0.9, 2.1, 3.0, 3.9, 5.1, 6.0, 6.3]),
        (np.arange(1, 22) * 0.03, [0.63]),
    ],
)
def test_horizons_are_all_steps_or_those_nearest_to_whole_seconds_and_the_last(offset_s, expected):
    steps = len(offset_s)
    batch = make_batch(np.zeros((1, 1, steps, 2)), np.zeros((1, steps, 2)), offset_s=offset_s)
    table = summarise(score(batch), bootstrap=0)["per_horizon"]
    assert list(table) == [str(second) for second in expected]


def test_agents_of_whom_nothing_is_known_are_excluded_and_counted():
    valid = [[True], [False], [True]]
    batch = make_batch(np.zeros((3, 1, 1, 2)), np.zeros((3, 1, 2)), truth_valid=valid, track=[7, 8, 9])
    scores = score(batch)
    assert scores.track.tolist() == [7, 9]
    summary = summarise(AgentScores.concatenate([scores, scores]), bootstrap=0)
    assert (summary["n"], summary["excluded"]) == (4, 2)
    assert summary["moving"] == {"n": 0}
    assert summary["pixels"] == {"n": 0}


def test_nothing_to_score_is_a_clear_error():
    batch = make_batch(np.zeros((2, 1, 1, 2)), np.zeros((2, 1, 2)), truth_valid=[[False], [False]])
    scores = score(batch)
    assert (len(scores), scores.excluded) == (0, 2)
    assert len(score(batch.take(slice(0, 0)))) == 0
    with pytest.raises(InputError, match="2 had a prediction"):
        summarise(scores)
    with pytest.raises(InputError, match="no batch"):
        AgentScores.concatenate([])


def test_batches_of_different_grids_are_not_mixed():
    batch = make_batch(np.zeros((1, 1, 2, 2)), np.zeros((1, 2, 2)))
    with pytest.raises(InputError, match="different time grids"):
        AgentScores.concatenate([score(batch), score(replace(batch, offset_s=np.array([0.5, 1.0])))])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paths": np.zeros((2, 3, 4))}, r"Batch.paths has shape \(2, 3, 4\)"),
        ({"paths": np.zeros((2, 0, 4, 2))}, "K > 0"),
        ({"truth": np.zeros((2, 5, 2))}, r"Batch.truth has shape \(2, 5, 2\), expected \(2, 4, 2\)"),
        ({"speed": np.zeros(3)}, "Batch.speed"),
        ({"offset_s": np.array([0.0, 1.0, 2.0, 3.0])}, "positive and ascending"),
        ({"offset_s": np.array([1.0, 2.0, 2.0, 3.0])}, "positive and ascending"),
    ],
)
def test_wrong_shapes_are_refused(change, message):
    batch = make_batch(np.zeros((2, 3, 4, 2)), np.zeros((2, 4, 2)))
    with pytest.raises(InputError, match=message):
        replace(batch, **change)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mode_valid", False, "no mode is valid"),
        ("paths", np.nan, "paths is not finite"),
        ("spread", np.inf, "spread is not finite"),
        ("probability", -0.1, "probability is negative"),
        ("probability", 0.0, "probability sums to 0"),
        ("truth", np.nan, "truth is not finite"),
        ("origin", np.nan, "origin is not finite"),
        ("heading", np.nan, "heading is not finite"),
        ("speed", np.inf, "speed is not finite"),
        ("label", 200, "label"),
        ("m_per_px", 0.0, "m_per_px"),
    ],
)
def test_unusable_values_are_refused_with_their_row(name, value, message):
    batch = make_batch(np.zeros((3, 2, 4, 2)), np.zeros((3, 4, 2)))
    changed = getattr(batch, name).copy()
    changed[1] = value
    with pytest.raises(InputError, match=f"row 1: {message}"):
        score(replace(batch, **{name: changed}))


def test_scores_can_be_selected():
    scores = score(random_batch(np.random.default_rng(2), 40, 4, 6))
    cars = scores.take(scores.label == Label.CAR)
    assert np.array_equal(cars.column("nll"), scores.column("nll")[scores.label == Label.CAR])
    summary = summarise(scores, bootstrap=0)
    assert summary["per_class"]["car"]["nll"] == pytest.approx(cars.column("nll").mean())
    back = AgentScores.concatenate([scores.take(slice(0, 15)), scores.take(slice(15, None))])
    for field in fields(AgentScores):
        if field.name != "excluded":
            assert np.array_equal(getattr(back, field.name), getattr(scores, field.name), equal_nan=True)


def test_the_summary_is_json_with_the_same_keys_for_every_predictor():
    batch = random_batch(np.random.default_rng(4), 60, 20, 12)
    names = ("paths", "probability", "spread")
    first = {name: getattr(batch, name)[:, :1] for name in names}
    single = replace(
        batch,
        mode_valid=np.ones((60, 1), bool),
        **{k: np.nan_to_num(v, nan=1.0) for k, v in first.items()},
    )
    one, many = (summarise(score(b), bootstrap=20) for b in (single, batch))
    assert json.loads(json.dumps(many, allow_nan=False)) == many
    for key in ("metrics", "per_horizon", "interval", "moving", "per_motion", "pixels"):
        assert one[key].keys() == many[key].keys()
    assert set(many["metrics"]) == {*METRICS, "calibration_error"}


def test_covered_as_stated_when_the_truth_is_drawn_from_the_prediction():
    rng = np.random.default_rng(6)
    n = 3000
    paths, spread = rng.normal(size=(n, 2, 1, 2)), rng.uniform(0.5, 2.0, (n, 2, 1))
    mode = (rng.random(n) > 0.7).astype(int)
    agent = np.arange(n)
    truth = paths[agent, mode] + spread[agent, mode, :, None] * rng.normal(size=(n, 1, 2))
    batch = make_batch(paths, truth, spread=spread, probability=np.tile([0.7, 0.3], (n, 1)))
    metrics = summarise(score(batch), bootstrap=0)["metrics"]
    # four standard errors, and half a percent for the error of the samples
    assert metrics["coverage_50"] == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / n) + 0.005)
    assert metrics["coverage_90"] == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / n) + 0.005)


@pytest.mark.parametrize("windows", [1, 10])
def test_bootstrap_has_the_analytic_width_for_independent_tracks(windows):
    # All windows of a track are alike, so only tracks count: mean +- 1.96 s / sqrt(tracks). A
    # percentile of 4000 replicates is known to sqrt(0.025 * 0.975 / 4000) / 0.058 = 4 % of that error.
    tracks = 1000
    values = np.random.default_rng(8).exponential(size=(tracks, 2))
    low, high = bootstrap_interval(
        np.repeat(values, windows, axis=0), np.repeat(np.arange(tracks), windows), 4000, seed=0
    )
    error = values.std(axis=0) / math.sqrt(tracks)
    assert (high - low) / (2 * 1.96 * error) == pytest.approx([1.0, 1.0], abs=0.07)
    assert ((low + high) / 2 - values.mean(axis=0)) / error == pytest.approx([0.0, 0.0], abs=0.25)


def test_bootstrap_weighs_tracks_by_their_windows():
    # Tracks of 3 windows at 1 m and of 1 window at 5 m, drawn in pairs: both long 1, both short 5, one
    # of each (3 * 1 + 5) / 4 = 2. Each pair has at least a quarter of the draws.
    interval = bootstrap_interval(np.array([[1.0], [1.0], [1.0], [5.0]]), np.array([4, 4, 4, 9]), 2000, 0)
    assert interval.tolist() == [[1.0], [5.0]]
    draws = bootstrap_interval(np.array([[1.0], [1.0], [1.0], [5.0]]), np.array([4, 4, 4, 9]), 1, 0)
    assert draws[0, 0] in (1.0, 2.0, 5.0)


def test_bootstrap_repeats_with_its_seed_and_says_nothing_of_a_single_track():
    scores = score(random_batch(np.random.default_rng(9), 300, 3, 5))
    first, again, other = (summarise(scores, bootstrap=50, seed=seed)["interval"] for seed in (1, 1, 2))
    assert first == again != other
    for name, (low, high) in first.items():
        assert low <= scores.column(name).mean() <= high
    assert summarise(scores, bootstrap=0)["interval"] == {}
    assert summarise(scores.take(scores.track == 1), bootstrap=50)["interval"] == {}


@pytest.mark.real_data
def test_constant_velocity_on_hotel_as_published(data_root):
    # ETH/UCY, fold hotel, all 1197 windows of 8 + 12 steps: constant velocity has ADE 0.32, FDE 0.61 m.
    rows = np.concatenate(
        [np.loadtxt(path) for path in sorted((data_root / "eth_ucy/hotel/test").glob("*.txt"))]
    )
    stamp_ns = np.rint(rows[:, 0] * 40e6).astype(np.int64)  # 10 frames are 0.4 s
    scene = Scene.build("hotel", stamp_ns, ids_from_int(rows[:, 1]), rows[:, 2:], label=Label.PEDESTRIAN)
    windows = cut((scene,), Protocol())
    windows = windows.take(windows.target)
    past, future = windows.xy[:, :8], windows.xy[:, 8:]
    step = past[:, -1] - past[:, -2]
    paths = past[:, -1, None] + step[:, None] * np.arange(1, 13)[:, None]
    tracks = np.unique(windows.ids, return_inverse=True)[1]
    batch = make_batch(
        paths[:, None],
        future,
        start=past[:, 0],
        origin=past[:, -1],
        label=windows.label,
        track=tracks,
        offset_s=Protocol().offset_s,
    )
    summary = summarise(score(batch), bootstrap=0)
    assert summary["n"] == 1197
    assert summary["metrics"]["ade_1"] == pytest.approx(0.32, abs=0.005)
    assert summary["metrics"]["fde_1"] == pytest.approx(0.61, abs=0.005)
