"""Step features by hand and against a slow scalar reading of them; frames of agents."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trajpred.features import (
    FEATURES,
    MOTION,
    SPEED_TIME_S,
    TOW_M,
    Motion,
    Observation,
    advance,
    fold,
    to_agent,
    to_map,
)

COLUMN = {name: i for i, name in enumerate(FEATURES)}
S = 1_000_000_000


def track(points, stamps_s=None, **known):
    """One track's history as the arguments of fold: (T, 2) m at (T,) s, all valid unless told."""
    xy = np.asarray(points, float)[None]
    steps = xy.shape[1]
    stamps = np.rint(np.arange(steps) * S if stamps_s is None else np.asarray(stamps_s) * S).astype(np.int64)
    known = {"valid": np.ones(steps, bool), **known}
    return {"stamp_ns": stamps, "xy": xy, **{k: np.asarray(v)[None] for k, v in known.items()}}


def named(step):
    return {name: float(step[i]) for name, i in COLUMN.items()}


def apart(a, b):
    """Angle between two directions, rad."""
    return abs(cmath.phase(cmath.exp(1j * (a - b))))


def test_the_first_observation_says_nothing_of_motion():
    steps, _, motion = fold(**track([[3.0, -4.0]]))
    assert not steps.any()
    assert motion.count.tolist() == [1]
    assert motion.xy.tolist() == [[3.0, -4.0]]
    assert motion.velocity.tolist() == [[0.0, 0.0]]
    assert motion.oriented.tolist() == [False]
    assert motion.interval_s.tolist() == [0.0]


def test_the_features_of_a_walk_round_a_corner_are_those_computed_by_hand():
    # 1 m east in 1 s, then 0.2 m north in 0.5 s.
    steps, mask, motion = fold(**track([[0, 0], [1, 0], [1, 0.2]], [0.0, 1.0, 1.5]))
    assert mask.all()
    assert steps.dtype == np.float32

    # The first displacement gives the heading outright: east. No turn is known yet.
    assert named(steps[0, 1]) == pytest.approx(
        dict.fromkeys(FEATURES, 0.0) | {"forward_mps": 1.0, "elapsed_s": 1.0, "moved": 1.0}
    )
    # The towed point lies 0.2 m behind, at (0.8, 0); from there to (1, 0.2) is north-east.
    turn = math.pi / 4
    assert TOW_M == 0.2
    assert named(steps[0, 2]) == pytest.approx(
        dict.fromkeys(FEATURES, 0.0)
        | {
            "forward_mps": 0.4 * math.sin(turn),  # the displacement lies pi/2 - turn left of the heading
            "left_mps": 0.4 * math.cos(turn),
            "turn_sin": math.sin(turn),
            "turn_cos": math.cos(turn),
            "elapsed_s": 0.5,
            "moved": 1.0,
            "oriented": 1.0,
        },
        rel=1e-5,
        abs=1e-6,
    )
    assert motion.heading[0] == pytest.approx(turn)
    assert motion.velocity[0] == pytest.approx([0.0, 0.4], abs=1e-12)
    assert motion.interval_s[0] == pytest.approx(0.5)
    assert motion.stamp_ns.tolist() == [1_500_000_000]
    assert motion.count.tolist() == [3]
    # Low-pass: from 1 m/s towards 0.4 m/s for 0.5 s of a time constant of 0.8 s.
    assert motion.speed[0] == pytest.approx(0.4 + 0.6 * math.exp(-0.5 / SPEED_TIME_S))


def test_the_tracker_velocity_and_yaw_are_features_in_the_own_frame():
    # The tracker says: facing north, moving 2 m/s north-west (that is: forward and to the left).
    steps, _, motion = fold(
        **track(
            [[5, 5]],
            yaw=[math.pi / 2],
            yaw_valid=[True],
            velocity=[[-math.sqrt(2), math.sqrt(2)]],
            velocity_valid=[True],
        )
    )
    assert named(steps[0, 0]) == pytest.approx(
        dict.fromkeys(FEATURES, 0.0)
        | {
            "tracker_forward_mps": math.sqrt(2),
            "tracker_left_mps": math.sqrt(2),
            "tracker_velocity_valid": 1.0,
            "tracker_yaw_valid": 1.0,
        },
        abs=1e-6,
    )
    assert motion.heading[0] == pytest.approx(math.pi / 2)
    assert motion.velocity[0] == pytest.approx([-math.sqrt(2), math.sqrt(2)])
    assert motion.speed[0] == pytest.approx(2.0)


def test_the_tracker_velocity_gives_the_first_heading_where_there_is_no_yaw():
    _, _, motion = fold(**track([[5, 5]], velocity=[[0.0, -3.0]], velocity_valid=[True]))
    assert motion.heading[0] == pytest.approx(-math.pi / 2)
    assert motion.oriented.tolist() == [True]


def test_yaw_and_velocity_under_a_false_mask_change_nothing():
    points = [[0, 0], [1, 0], [1, 1]]
    plain = fold(**track(points))
    garbage = fold(
        **track(points, yaw=[1.0, 2.0, 3.0], yaw_valid=[False] * 3),
        velocity=np.full((1, 3, 2), 9.0),
        velocity_valid=np.zeros((1, 3), bool),
    )
    np.testing.assert_array_equal(plain.steps, garbage.steps)
    np.testing.assert_array_equal(plain.motion.heading, garbage.motion.heading)


def test_a_gap_counts_with_its_true_time_and_its_whole_displacement():
    # Seen at 0, 1 and 4 s, missed at 2 and 3 s: 6 m in 3 s.
    history = fold(
        **track(
            [[0, 0], [1, 0], [99, 99], [-99, 0], [7, 0]],
            [0, 1, 2, 3, 4],
            valid=[True, True, False, False, True],
        )
    )
    assert not history.steps[0, 2:4].any()
    last = named(history.steps[0, 4])
    assert last["elapsed_s"] == 3.0
    assert last["forward_mps"] == pytest.approx(2.0)
    assert history.motion.count.tolist() == [3]
    assert history.motion.interval_s.tolist() == [3.0]


def test_the_same_motion_at_irregular_times_gives_the_same_velocities():
    stamps = np.array([0.0, 0.1, 0.7, 0.75, 2.0])
    history = fold(**track(np.stack([3 * stamps, 4 * stamps], axis=1), stamps))
    np.testing.assert_allclose(history.steps[0, 1:, COLUMN["forward_mps"]], 5.0, rtol=1e-5)
    np.testing.assert_allclose(history.steps[0, 1:, COLUMN["left_mps"]], 0.0, atol=1e-5)
    np.testing.assert_allclose(history.steps[0, 2:, COLUMN["turn_sin"]], 0.0, atol=1e-6)
    np.testing.assert_allclose(history.steps[0, 1:, COLUMN["elapsed_s"]], np.diff(stamps), rtol=1e-6)


def test_the_turn_rate_of_a_circle_is_its_turn_rate():
    rate = 0.6
    at = np.arange(4) * 0.5
    circle = 5 * np.stack([np.cos(rate * at), np.sin(rate * at)], axis=1)
    assert fold(**track(circle, at)).motion.turn_rate[0] == pytest.approx(rate)


def test_the_turn_rate_of_a_circle_seen_at_irregular_times_is_its_turn_rate():
    rate = 0.6
    at = np.array([0.0, 0.5, 0.6, 1.0])
    circle = 5 * np.stack([np.cos(rate * at), np.sin(rate * at)], axis=1)
    assert fold(**track(circle, at)).motion.turn_rate[0] == pytest.approx(rate, rel=1e-3)


def test_an_agent_that_stands_still_exactly_keeps_its_heading_exactly():
    points = [[0, 0], [1, 1], *[[1, 1]] * 20]
    history = fold(**track(points, np.arange(22) * 0.1))
    np.testing.assert_allclose(history.motion.heading, math.pi / 4)
    np.testing.assert_array_equal(history.steps[0, 2:, COLUMN["turn_sin"]], 0.0)


def standing_after_a_walk(noise_m, seed):
    """Heading (51,) rad over 5 s at 10 Hz of a pedestrian that has just stopped after 3 s at 1.3 m/s."""
    rng = np.random.default_rng(seed)
    at = np.arange(81) * 0.1
    xy = np.stack([1.3 * np.minimum(at, 3.0), np.zeros(81)], axis=1) + rng.normal(scale=noise_m, size=(81, 2))
    arguments = track(xy, at)
    motion, heading = Motion.empty(1), []
    for t in range(81):
        motion, _ = step_of(motion, arguments, t)
        heading.append(motion.heading[0])
    return np.array(heading[30:])


def step_of(motion, arguments, t):
    n = len(arguments["valid"])
    return advance(
        motion,
        Observation(
            arguments["stamp_ns"][t],
            arguments["xy"][:, t],
            arguments["yaw"][:, t] if "yaw" in arguments else np.zeros(n),
            arguments["yaw_valid"][:, t] if "yaw_valid" in arguments else np.zeros(n, bool),
            arguments["velocity"][:, t] if "velocity" in arguments else np.zeros((n, 2)),
            arguments["velocity_valid"][:, t] if "velocity_valid" in arguments else np.zeros(n, bool),
        ),
    )


def worst_drift_deg(noise_m):
    """(20,) the largest turn away from the heading at the stop, in each of 20 trials."""
    trials = [standing_after_a_walk(noise_m, seed) for seed in range(20)]
    return np.degrees([max(apart(h, heading[0]) for h in heading) for heading in trials])


def test_the_heading_at_standstill_withstands_millimetre_jitter():
    assert worst_drift_deg(0.002).max() < 5.0


def test_the_heading_at_standstill_withstands_centimetre_jitter():
    assert np.median(worst_drift_deg(0.01)) < 5.0


def rests(x_m, stamps_s):
    motion, found = Motion.empty(1), []
    known = track(np.stack([x_m, np.zeros(len(x_m))], axis=1), stamps_s)
    for t in range(len(x_m)):
        motion, _ = step_of(motion, known, t)
        found.append(bool(motion.rests[0]))
    return found


def test_who_comes_nowhere_for_a_second_rests_and_does_not_as_soon_as_it_is_0_3_m_off():
    """At 2 Hz: it stands, goes 0.25 m, which is not far, then 0.5 m at once, and stands again."""
    x_m = [0.0, 0.0, 0.0, 0.25, 0.5, 0.5, 0.5, 0.5]
    assert rests(x_m, 0.5 * np.arange(8)) == [False, False, True, True, False, False, True, True]


@pytest.mark.parametrize("mps", [0.35, 1.4, 5.0])
def test_who_goes_on_and_on_never_rests(mps):
    stamps_s = np.arange(0.0, 20.0, 0.1)
    assert not any(rests(mps * stamps_s, stamps_s))


def test_who_rests_faces_where_it_did_whatever_the_noise_says_and_turns_with_a_yaw_that_is_known():
    rng = np.random.default_rng(0)
    walk = np.concatenate([np.arange(0.0, 3.0, 0.15), np.full(100, 3.0)])
    xy = np.stack([walk, np.zeros(120)], axis=1)
    xy[40:] += rng.normal(0.0, 0.05, (80, 2))
    alone = track(xy, 0.1 * np.arange(120))
    told = alone | {"yaw": rng.uniform(-3.0, 3.0, (1, 120)), "yaw_valid": np.ones((1, 120), bool)}
    motion = fold(**alone).motion
    assert apart(motion.heading[0], 0.0) > 0.1
    assert apart(motion.facing[0], 0.0) < 0.05
    assert fold(**told).motion.facing[0] == pytest.approx(told["yaw"][0, -1])


def test_one_absurd_jump_leaves_the_memory_finite():
    points = [[-1e308, 0], [1e308, 0], [0, 0], [1, 0], [2, 0]]
    with np.errstate(all="ignore"):
        motion = fold(**track(points)).motion
    for name in ("heading", "velocity", "turn_rate", "speed"):
        assert np.isfinite(getattr(motion, name)).all(), name


def test_the_features_of_a_huge_displacement_are_finite():
    # Finite in float64, beyond float32: an infinite feature would make a recurrent state NaN for good.
    with np.errstate(all="ignore"):
        steps = fold(**track([[0, 0], [1e40, 0]])).steps
    assert np.isfinite(steps).all()


def slow_history(arguments):
    """One track, one observation after the other, plain floats: (features, heading, margin, adrift).

    margin: how near any drawbar came to being just taut, where rounding decides whether it pulls.
    adrift: a velocity was told before the track had any direction at all.
    """
    rows, heading, oriented, last, margin, adrift = [], 0.0, False, None, math.pi, False
    towed = 0j
    for t in np.flatnonzero(arguments["valid"][0]):
        at, position = int(arguments["stamp_ns"][t]), complex(*arguments["xy"][0, t])
        yaw = float(arguments["yaw"][0, t]) if arguments["yaw_valid"][0, t] else None
        told = complex(*arguments["velocity"][0, t]) if arguments["velocity_valid"][0, t] else None
        elapsed = (at - last[0]) / 1e9 if last else 0.0
        velocity = (position - last[1]) / elapsed if last else 0.0
        before, was_oriented = heading, oriented
        towed = towed if last else position
        drawbar = position - towed
        margin = min(margin, abs(abs(drawbar) - TOW_M))
        taut = abs(drawbar) > TOW_M
        if yaw is not None:
            heading, oriented, taut = yaw, True, True
        elif taut or (not oriented and abs(drawbar) > 1e-6):
            heading, oriented = math.atan2(drawbar.imag, drawbar.real), True
        elif not oriented and told and abs(told) > 1e-6:
            heading, oriented, taut = math.atan2(told.imag, told.real), True, True
        if taut:
            towed = position - TOW_M * cmath.exp(1j * heading)
        adrift |= bool(told) and not oriented
        turn = heading - before
        own, tracker = (z * cmath.exp(-1j * heading) for z in (velocity, told or 0.0))
        rows.append(
            [
                own.real,
                own.imag,
                math.sin(turn) if was_oriented else 0.0,
                math.cos(turn) if was_oriented else 0.0,
                elapsed,
                last is not None,
                was_oriented,
                tracker.real,
                tracker.imag,
                told is not None,
                yaw is not None,
            ]
        )
        last = (at, position)
    return np.array(rows, float).reshape(-1, len(FEATURES)), heading, margin, adrift


coordinate = st.floats(-20, 20)
observation = st.fixed_dictionaries(
    {
        "dt_ms": st.integers(100, 2000),
        "to": st.one_of(st.tuples(coordinate, coordinate), st.none()),  # none: where it was
        "valid": st.sampled_from([True, True, True, False]),
        "yaw": st.one_of(st.none(), st.floats(-3, 3)),
        "velocity": st.one_of(st.none(), st.tuples(coordinate, coordinate)),
    }
)


def drawn_track(observations):
    at, position, columns = 0, (0.0, 0.0), []
    for seen in observations:
        at += seen["dt_ms"]
        position = seen["to"] or position
        columns.append((at / 1e3, position, seen["yaw"], seen["velocity"], seen["valid"]))
    stamps, points, yaw, velocity, valid = zip(*columns, strict=True)
    return track(
        points,
        np.array(stamps),
        valid=valid,
        yaw=[y or 0.0 for y in yaw],
        yaw_valid=[y is not None for y in yaw],
        velocity=[v or (0.0, 0.0) for v in velocity],
        velocity_valid=[v is not None for v in velocity],
    )


tracks = st.lists(observation, min_size=1, max_size=8).map(drawn_track)


def turned(arguments, angle, shift):
    """The whole track rotated about the origin and moved."""
    return arguments | {
        "xy": to_map(arguments["xy"], np.float64(angle)) + shift,
        "yaw": arguments["yaw"] + angle,
        "velocity": to_map(arguments["velocity"], np.float64(angle)),
    }


def in_plain_motion(arguments):
    """No motion is tiny without being none: what counts as a direction is decided at 1e-6 m/s."""
    points = arguments["xy"][0][arguments["valid"][0]]
    length = np.hypot(*np.diff(points, axis=0).T)
    told = np.hypot(*arguments["velocity"][0].T)
    return ((length == 0) | (length > 1e-4)).all() and ((told == 0) | (told > 1e-4)).all()


@settings(max_examples=80)
@given(tracks)
def test_the_features_are_those_of_the_slow_reference(arguments):
    expected, heading, margin, _ = slow_history(arguments)
    assume(margin > 1e-6)
    history = fold(**arguments)
    got = history.steps[0][arguments["valid"][0]]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert history.motion.count[0] == len(expected)
    if len(expected):
        assert apart(history.motion.heading[0], heading) < 1e-6


@settings(max_examples=50)
@given(tracks)
def test_folding_a_history_is_advancing_tick_by_tick(arguments):
    history = fold(**arguments)
    motion = Motion.empty(1)
    for t in np.flatnonzero(arguments["valid"][0]):
        motion, step = step_of(motion, arguments, t)
        np.testing.assert_array_equal(history.steps[0, t], step[0])
    for name in MOTION.names:
        np.testing.assert_array_equal(getattr(history.motion, name), getattr(motion, name))
    np.testing.assert_array_equal(history.mask, arguments["valid"])
    assert not history.steps[~arguments["valid"]].any()


@settings(max_examples=50)
@given(st.lists(tracks, min_size=2, max_size=4))
def test_tracks_folded_together_do_not_touch_each_other(several):
    steps = min(len(one["stamp_ns"]) for one in several)
    stamps = several[0]["stamp_ns"][:steps]
    names = [name for name in several[0] if name != "stamp_ns"]
    together = fold(stamp_ns=stamps, **{k: np.concatenate([s[k][:, :steps] for s in several]) for k in names})
    for row, one in enumerate(several):
        alone = fold(stamp_ns=stamps, **{k: one[k][:, :steps] for k in names})
        np.testing.assert_array_equal(together.steps[row], alone.steps[0])
        assert together.motion.heading[row] == alone.motion.heading[0]


angles = st.floats(-math.pi, math.pi)
shifts = st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))


@settings(max_examples=80)
@given(tracks, angles, shifts)
def test_turning_and_moving_the_whole_track_changes_no_feature(arguments, angle, shift):
    assume(in_plain_motion(arguments))
    *_, margin, adrift = slow_history(arguments)
    assume(margin > 1e-6)
    assume(not adrift)  # see the test below
    here = fold(**arguments)
    there = fold(**turned(arguments, angle, shift))
    np.testing.assert_allclose(there.steps, here.steps, rtol=1e-4, atol=1e-4)
    if here.motion.oriented[0]:
        assert apart(there.motion.heading[0], here.motion.heading[0] + angle) < 1e-4


def test_a_velocity_told_to_a_track_that_has_not_moved_is_in_its_own_frame():
    # Twice at the same place; the tracker's velocity comes with the second observation only. Turning
    # the world by a right angle must not be seen.
    arguments = track(
        [[0, 0], [0, 0]],
        [0, 0.1],
        yaw=[0.0, 0.0],
        yaw_valid=[False, False],
        velocity=[[0.0, 0.0], [2.0, 0.0]],
        velocity_valid=[False, True],
    )
    here = fold(**arguments)
    there = fold(**turned(arguments, math.pi / 2, (0.0, 0.0)))
    np.testing.assert_allclose(there.steps, here.steps, atol=1e-6)


def test_the_agent_frame_has_x_ahead_and_y_to_the_left():
    # Facing north: a point to the north is ahead, one to the west is left.
    heading = np.float64(math.pi / 2)
    np.testing.assert_allclose(to_agent(np.array([0.0, 2.0]), heading), [2.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(to_agent(np.array([-3.0, 0.0]), heading), [0.0, 3.0], atol=1e-12)
    np.testing.assert_allclose(to_map(np.array([2.0, 0.0]), heading), [0.0, 2.0], atol=1e-12)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(-10, 10))
def test_to_the_agent_and_back_to_the_map_is_where_it_was(x, y, heading):
    vector = np.array([[x, y]])
    there = to_agent(vector, np.array([heading]))
    assert np.hypot(*there[0]) == pytest.approx(math.hypot(x, y), abs=1e-9)
    np.testing.assert_allclose(to_map(there, np.array([heading])), vector, atol=1e-9)
    np.testing.assert_allclose(
        to_agent(to_map(vector, np.array([heading])), np.array([heading])), vector, atol=1e-9
    )


def test_frames_broadcast_over_paths():
    paths = np.ones((3, 2, 5, 2))
    heading = np.array([0.0, math.pi / 2, math.pi])
    there = to_map(paths, heading[:, None, None])
    np.testing.assert_allclose(there[:, 1, 4], [[1, 1], [-1, 1], [-1, -1]], atol=1e-12)
