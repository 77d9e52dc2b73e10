"""The promises of the streaming predictor, with the baselines: one answer per object, time, memory."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trajpred.config import PredictorConfig
from trajpred.predictor import Predictor
from trajpred.timegrid import resample
from trajpred.types import Label, Prediction, Source, TrackFrame, ids_from_int

S = 1_000_000_000
BASELINES = ("cv", "ctrv", "kalman")
each_baseline = pytest.mark.parametrize("baseline", BASELINES)


def frame(at_s, numbers, xy, **known):
    xy = np.asarray(xy, float).reshape(-1, 2)
    return TrackFrame.build(round(at_s * S), ids_from_int(numbers), xy, **known)


def predictor(baseline="cv", **bounds):
    return Predictor(None, PredictorConfig(baseline=baseline, **bounds))


def played(frames, baseline="cv", **bounds):
    """A fresh predictor that has been through the frames, and its last answer."""
    fresh = predictor(baseline, **bounds)
    answers = [fresh.step(one) for one in frames]
    return fresh, answers[-1]


def assert_same(a, b, rows=slice(None)):
    """Two predictions of the same thing; rows of b only, where they are told."""
    assert a.stamp_ns == b.stamp_ns
    assert a.frame_id == b.frame_id
    np.testing.assert_array_equal(a.offset_s, b.offset_s)
    for name in (
        "ids",
        "xy",
        "heading",
        "velocity",
        "paths",
        "probability",
        "mode_valid",
        "spread",
        "source",
    ):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name)[rows], err_msg=name)


def assert_promises(given_frame, answer):
    """What holds of every answer whatever came in."""
    n, t = len(given_frame), len(answer.offset_s)
    np.testing.assert_array_equal(answer.ids, given_frame.ids)
    assert len(answer) == n
    assert answer.stamp_ns == given_frame.stamp_ns
    assert answer.frame_id == given_frame.frame_id
    assert (answer.offset_s > 0).all()
    assert (np.diff(answer.offset_s) > 0).all()
    k = answer.paths.shape[1]
    assert k >= 1
    assert answer.paths.shape == (n, k, t, 2)
    assert answer.probability.shape == answer.mode_valid.shape == (n, k)
    assert answer.spread.shape == (n, k, t)
    assert answer.xy.shape == answer.velocity.shape == (n, 2)
    assert answer.heading.shape == answer.source.shape == (n,)
    for name in ("xy", "heading", "velocity", "paths", "probability", "spread"):
        assert np.isfinite(getattr(answer, name)).all(), name
    assert answer.mode_valid.any(axis=1).all()
    assert (answer.probability >= 0).all()
    assert (answer.spread > 0).all()
    np.testing.assert_allclose(np.where(answer.mode_valid, answer.probability, 0).sum(axis=1), 1.0)
    seen = on_earth(given_frame.xy)
    np.testing.assert_array_equal(answer.xy[seen], given_frame.xy[seen])
    assert set(answer.source.tolist()) <= {int(s) for s in Source}


def test_constant_velocity_by_hand():
    model_free = predictor(baseline_step_s=0.5, baseline_steps=4)
    first = model_free.step(frame(0, [1], [[10, 0]]))
    np.testing.assert_array_equal(first.offset_s, [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_array_equal(first.paths, np.broadcast_to([10.0, 0.0], (1, 1, 4, 2)))
    second = model_free.step(frame(0.5, [1], [[11, -2]]))  # 2 m/s east, 4 m/s south
    np.testing.assert_allclose(second.paths[0, 0], [[12, -4], [13, -6], [14, -8], [15, -10]])
    np.testing.assert_allclose(second.velocity, [[2, -4]])
    assert second.heading[0] == pytest.approx(math.atan2(-4, 2))
    assert second.probability.tolist() == [[1.0]]


def test_the_trackers_velocity_and_yaw_serve_from_the_first_observation_on():
    answer = predictor(baseline_step_s=1.0, baseline_steps=2).step(
        frame(0, [1], [[0, 0]], velocity=[[3.0, 1.0]], yaw=[2.0])
    )
    np.testing.assert_allclose(answer.paths[0, 0], [[3, 1], [6, 2]])
    assert answer.heading[0] == pytest.approx(2.0)


def test_a_circle_is_continued_by_constant_turn():
    rate, radius = 0.5, 8.0

    def circle(t):
        return radius * np.stack([np.cos(rate * t), np.sin(rate * t)], axis=-1)

    _, answer = played([frame(t, [1], circle(t)) for t in (0.0, 0.4, 0.8)], "ctrv")
    np.testing.assert_allclose(answer.paths[0, 0], circle(0.8 + answer.offset_s), atol=1e-6)


def test_a_circle_seen_at_irregular_times_is_continued_by_constant_turn():
    rate, radius = 0.5, 8.0

    def circle(t):
        return radius * np.stack([np.cos(rate * t), np.sin(rate * t)], axis=-1)

    _, answer = played([frame(t, [1], circle(t)) for t in (0.0, 0.4, 0.5, 0.9)], "ctrv")
    np.testing.assert_allclose(answer.paths[0, 0], circle(0.9 + answer.offset_s), atol=0.05)


@each_baseline
def test_turning_and_moving_the_world_turns_and_moves_the_prediction(baseline):
    rng = np.random.default_rng(5)
    walks = np.cumsum(rng.normal([0.5, 0.2], 0.2, (6, 4, 2)), axis=0)
    c, s = math.cos(2.0), math.sin(2.0)
    turn = np.array([[c, s], [-s, c]])  # row vectors
    shift = np.array([400.0, -250.0])
    _, here = played([frame(i * 0.4, range(4), xy) for i, xy in enumerate(walks)], baseline)
    _, there = played([frame(i * 0.4, range(4), xy @ turn + shift) for i, xy in enumerate(walks)], baseline)
    np.testing.assert_allclose(there.paths, here.paths @ turn + shift, atol=1e-6)
    np.testing.assert_allclose(there.spread, here.spread, atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * there.heading), np.exp(1j * (here.heading + 2.0)), atol=1e-6)


@each_baseline
def test_the_order_of_the_rows_does_not_matter(baseline):
    rng = np.random.default_rng(6)
    one, other = predictor(baseline), predictor(baseline)
    xy = rng.normal(size=(5, 2))
    for tick in range(4):
        xy = xy + rng.normal(0.3, 0.1, (5, 2))
        order = rng.permutation(5)
        a = one.step(frame(tick * 0.4, range(5), xy))
        b = other.step(frame(tick * 0.4, np.arange(5)[order], xy[order]))
        np.testing.assert_array_equal(b.paths, a.paths[order])
        np.testing.assert_array_equal(b.source, a.source[order])


def test_everybody_is_answered_by_the_baseline_that_was_asked_for():
    model_free, answer = played([frame(0, [3, 1, 2], np.eye(3)[:, :2])])
    assert answer.source.tolist() == [Source.BASELINE] * 3
    assert model_free.counts.answers == {Source.BASELINE: 3}
    assert model_free.counts.frames == 1


@each_baseline
@pytest.mark.parametrize("bad", [[np.nan, 0.0], [0.0, np.inf], [-np.inf, np.nan]])
def test_an_object_without_a_position_is_answered_all_the_same(baseline, bad):
    model_free = predictor(baseline)
    asked = frame(0, [1, 2], [bad, [5, 5]], yaw=[np.nan, np.inf], velocity=[[np.nan, 1], [np.inf, 0]])
    answer = model_free.step(asked)
    assert_promises(asked, answer)
    assert answer.source.tolist() == [Source.INVALID_STATE, Source.BASELINE]
    assert len(model_free) == 1


@each_baseline
def test_a_known_track_without_a_position_stays_where_it_was_last_seen(baseline):
    model_free, _ = played([frame(0, [1], [[0, 0]]), frame(0.5, [1], [[1, 0]])], baseline)
    lost = model_free.step(frame(1.0, [1], [[np.nan, np.nan]]))
    assert lost.source.tolist() == [Source.INVALID_STATE]
    np.testing.assert_allclose(lost.xy, [[1, 0]])
    # It is not an observation: the next one counts from the last good one, 1 s and 4 m before.
    found = model_free.step(frame(1.5, [1], [[5, 0]]))
    _, expected = played(
        [frame(0, [1], [[0, 0]]), frame(0.5, [1], [[1, 0]]), frame(1.5, [1], [[5, 0]])], baseline
    )
    assert_same(found, expected)


@each_baseline
def test_a_second_object_of_one_id_is_answered_and_not_tracked(baseline):
    model_free, _ = played([frame(0, [1, 2], [[0, 0], [9, 9]])], baseline)
    asked = frame(0.5, [1, 2, 1, 1], [[1, 0], [9, 9], [50, 50], [70, 70]])
    answer = model_free.step(asked)
    assert_promises(asked, answer)
    assert answer.source.tolist() == [Source.BASELINE, Source.BASELINE, *[Source.DUPLICATE_ID] * 2]
    assert len(model_free) == 2
    after = model_free.step(frame(1.0, [1], [[2, 0]]))
    _, expected = played([frame(t, [1], [[2 * t, 0]]) for t in (0, 0.5, 1.0)], baseline)
    assert_same(after, expected)


@each_baseline
def test_more_objects_than_the_memory_holds_are_all_answered(baseline):
    model_free = predictor(baseline, max_tracks=3)
    for tick in range(3):
        asked = frame(tick * 0.5, range(5), np.full((5, 2), tick))
        answer = model_free.step(asked)
        assert_promises(asked, answer)
        assert sorted(answer.source.tolist()) == [Source.BASELINE] * 3 + [Source.OVER_CAPACITY] * 2
        assert len(model_free) == 3
    assert model_free.counts.answers == {Source.BASELINE: 9, Source.OVER_CAPACITY: 6}


def test_those_within_capacity_are_followed_from_tick_to_tick():
    model_free = predictor(max_tracks=2, baseline_step_s=1.0, baseline_steps=1)
    model_free.step(frame(0, range(4), np.zeros((4, 2))))
    answer = model_free.step(frame(1, range(4), np.ones((4, 2))))
    kept = answer.source == Source.BASELINE
    np.testing.assert_allclose(answer.paths[kept, 0, 0], np.full((2, 2), 2.0))


@each_baseline
def test_an_empty_frame_is_answered_with_nothing_and_forgets_nobody(baseline):
    model_free = predictor(baseline)
    answer = model_free.step(frame(0, [], []))
    assert_promises(frame(0, [], []), answer)
    model_free.step(frame(0.1, [1], [[0, 0]]))
    model_free.step(frame(0.6, [], []))
    after = model_free.step(frame(1.1, [1], [[1, 0]]))
    _, expected = played([frame(0.1, [1], [[0, 0]]), frame(1.1, [1], [[1, 0]])], baseline)
    assert_same(after, expected)


def a_walk(until, numbers=(1, 2), step_s=0.4):
    """Frames of agents on their own curves."""
    for tick in range(until):
        t = tick * step_s
        xy = [[t * (1 + n / 3), math.sin(t * n)] for n in numbers]
        yield frame(t, numbers, xy)


@each_baseline
def test_a_repeated_stamp_replaces_the_last_observation(baseline):
    before = list(a_walk(4))
    wrong, right, after = frame(1.6, [1, 2], [[80, 80], [-3, 0]]), *list(a_walk(6))[4:]
    repeated, answer = played([*before, wrong, wrong, right], baseline)
    plain, expected = played([*before, right], baseline)
    assert_same(answer, expected)
    assert_same(repeated.step(after), plain.step(after))
    assert repeated.counts.resets == repeated.counts.late_frames == 0


@each_baseline
def test_the_very_first_message_may_be_repeated(baseline):
    wrong = frame(0, [1, 2], [[80, 80], [7, 7]], velocity=[[9, 9], [9, 9]], yaw=[1.0, 1.0])
    first, second, third = a_walk(3)
    repeated, answer = played([wrong, first], baseline)
    plain, expected = played([first], baseline)
    assert_same(answer, expected)
    for one in (second, third):
        assert_same(repeated.step(one), plain.step(one))


@each_baseline
def test_observing_and_then_stepping_is_stepping_twice(baseline):
    frames = list(a_walk(6))
    # A jump, a late frame, a repeated stamp and garbage on the way.
    frames += [
        frame(1.95, [1], [[0, 0]]),
        frame(2.0, [2, 2, 9], [[1, 1], [2, 2], [np.nan, 0]]),
        *a_walk(2),
    ]
    observing, stepping = predictor(baseline), predictor(baseline)
    for one in frames:
        observing.observe(one)
        stepping.step(one)
    assert len(observing) == len(stepping)
    last = frame(0.7, [1, 2, 3], [[1, 0], [2, 0], [3, 0]])
    assert_same(observing.step(last), stepping.step(last))
    assert observing.counts.frames == stepping.counts.frames == len(frames) + 1
    assert observing.counts.resets == stepping.counts.resets == 1
    assert observing.counts.late_frames == stepping.counts.late_frames == 1


@each_baseline
def test_a_backward_jump_starts_afresh_and_is_counted(baseline):
    looped = predictor(baseline)
    for one in a_walk(10):
        looped.step(one)
    fresh = predictor(baseline)
    for one in a_walk(4):
        assert_same(looped.step(one), fresh.step(one))
    assert looped.counts.resets == 1
    assert looped.counts.late_frames == 0
    assert looped.counts.frames == 14
    assert fresh.counts.resets == 0


@each_baseline
def test_a_late_frame_is_answered_counted_and_changes_nothing(baseline):
    disturbed, plain = predictor(baseline), predictor(baseline)
    *before, last = a_walk(6)
    for one in before:
        disturbed.step(one)
        plain.step(one)
    late = frame(1.4, [1, 5, 1], [[50, 50], [60, 60], [70, 70]])  # 0.2 s before the last one
    answer = disturbed.step(late)
    assert_promises(late, answer)
    assert answer.source.tolist() == [Source.OUT_OF_ORDER, Source.OUT_OF_ORDER, Source.DUPLICATE_ID]
    assert disturbed.counts.late_frames == 1
    assert disturbed.counts.resets == 0
    assert len(disturbed) == len(plain)
    assert_same(disturbed.step(last), plain.step(last))


@pytest.mark.parametrize(
    ("tolerance_s", "back_ns", "late"),
    [
        (0.3, 300_000_000, True),
        (0.3, 300_000_001, False),
        (0.0, 1, False),
    ],
)
def test_a_frame_is_late_up_to_the_tolerance_and_a_jump_beyond(tolerance_s, back_ns, late):
    model_free = predictor(reorder_tolerance_s=tolerance_s)
    model_free.step(frame(10, [1], [[0, 0]]))
    model_free.step(TrackFrame.build(10 * S - back_ns, ids_from_int([1]), [[0, 0]]))
    assert (model_free.counts.late_frames, model_free.counts.resets) == ((1, 0) if late else (0, 1))


def test_a_tolerance_is_not_rounded_down_by_a_nanosecond():
    model_free = predictor(reorder_tolerance_s=2.01)
    model_free.step(frame(10, [1], [[0, 0]]))
    model_free.step(TrackFrame.build(10 * S - 2_010_000_000, ids_from_int([1]), [[0, 0]]))
    assert model_free.counts.resets == 0


def test_a_gap_shorter_than_the_age_goes_on_with_the_true_elapsed_time():
    _, answer = played(
        [frame(0, [1], [[0, 0]]), frame(2.5, [1], [[5, 0]])], baseline_step_s=1.0, baseline_steps=1
    )
    np.testing.assert_allclose(answer.paths[0, 0], [[7, 0]])  # 5 m in 2.5 s: 2 m/s


@each_baseline
def test_a_gap_longer_than_the_age_forgets(baseline):
    after = frame(5.0, [1, 2], [[5, 0], [6, 0]])
    gone, answer = played([*a_walk(5), after], baseline, max_age_s=3.0)
    _, expected = played([after], baseline)
    assert_same(answer, expected)
    assert gone.counts.resets == 0


@each_baseline
def test_only_the_tracks_that_were_missed_for_too_long_are_forgotten(baseline):
    steady, _ = played([frame(t, [1], [[t, 0]]) for t in (0, 2, 4)], baseline)
    both, _ = played(
        [frame(0, [1, 2], [[0, 0], [9, 0]]), frame(2, [1], [[2, 0]]), frame(4, [1], [[4, 0]])], baseline
    )
    assert len(both) == 1
    asked = frame(5, [1, 2], [[5, 0], [9, 9]])
    assert_same(both.step(asked), steady.step(asked))


@each_baseline
def test_another_coordinate_frame_starts_afresh(baseline):
    moved, _ = played(list(a_walk(5)), baseline)
    fresh = predictor(baseline)
    for t in (2.0, 2.4, 2.8):
        one = frame(t, [1, 2], [[t, 0], [0, t]], frame_id="odom")
        assert_same(moved.step(one), fresh.step(one))
    assert moved.counts.resets == 1


def test_another_coordinate_frame_may_also_be_older():
    moved, _ = played([frame(9, [1], [[0, 0]])])
    assert moved.step(frame(8.9, [1], [[1, 0]], frame_id="odom")).source.tolist() == [Source.BASELINE]
    assert (moved.counts.resets, moved.counts.late_frames) == (1, 0)


@each_baseline
def test_resetting_is_being_new(baseline):
    used, _ = played(list(a_walk(5)), baseline)
    used.reset()
    assert len(used) == 0
    fresh = predictor(baseline)
    for one in a_walk(3):
        assert_same(used.step(one), fresh.step(one))


def test_two_runs_over_the_same_frames_are_the_same():
    frames = list(a_walk(8))
    assert_same(played(frames, "kalman")[1], played(frames, "kalman")[1])


@each_baseline
def test_memory_stays_within_bounds_when_every_id_is_new(baseline):
    model_free = predictor(baseline, max_tracks=64, baseline_steps=2, max_age_s=1e6)
    xy = np.zeros((20, 2))
    for tick in range(500):
        model_free.step(frame(tick * 0.1, np.arange(20) + 20 * tick, xy))
        assert len(model_free) <= 64
    assert len(model_free) == 64


def test_memory_is_bounded_by_age_too():
    model_free = predictor(max_age_s=1.0, baseline_steps=2)
    for tick in range(100):
        model_free.step(frame(tick * 0.1, [tick], [[0, 0]]))
        assert len(model_free) <= 11


def test_what_the_caller_does_to_the_arrays_afterwards_is_not_remembered():
    frames = list(a_walk(4))
    careless, careful = predictor("kalman"), predictor("kalman")
    for one in frames:
        asked = replace(one, xy=one.xy.copy())
        answer, expected = careless.step(asked), careful.step(one)
        assert_same(answer, expected)
        asked.xy[:] = np.nan
        for name in ("xy", "heading", "velocity", "paths", "probability"):
            getattr(answer, name)[:] = np.nan


def test_a_frame_is_not_changed_by_looking_at_it():
    asked = frame(0, [1, 1], [[np.nan, 1], [1, 1]], yaw=[np.nan, 1.0], velocity=[[np.inf, 0], [1, 1]])
    copies = {f.name: np.copy(getattr(asked, f.name)) for f in fields(asked)}
    predictor().step(asked)
    for name, value in copies.items():
        np.testing.assert_array_equal(getattr(asked, name), value)


coordinate = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e-300, 1e6]))
garbage_row = st.tuples(
    st.integers(0, 6),
    st.tuples(coordinate, coordinate),
    coordinate,
    st.booleans(),
    st.tuples(coordinate, coordinate),
    st.booleans(),
    st.integers(0, 255),
)
garbage_tick = st.tuples(
    st.sampled_from([0, 0, 1, 10**8, 10**8, 4 * 10**8, 5 * 10**9, -1, -(10**8), -(10**9)]),
    st.sampled_from(["map", "map", "map", "odom"]),
    st.lists(garbage_row, max_size=7),
)


def garbage_frame(stamp_ns, frame_id, rows):
    n = len(rows)
    number, xy, yaw, yaw_valid, velocity, velocity_valid, label = (
        zip(*rows, strict=True) if rows else [()] * 7
    )
    return TrackFrame(
        stamp_ns=stamp_ns,
        frame_id=frame_id,
        ids=ids_from_int(number),
        label=np.array(label, np.uint8),
        xy=np.array(xy, float).reshape(n, 2),
        yaw=np.array(yaw, float),
        yaw_valid=np.array(yaw_valid, bool),
        velocity=np.array(velocity, float).reshape(n, 2),
        velocity_valid=np.array(velocity_valid, bool),
        size=np.full((n, 3), np.nan),
        size_valid=np.ones(n, bool),
        group=np.zeros(n, np.int64),
    )


def assert_sources(asked, answer, late, max_tracks):
    """The reason given is the one that holds."""
    numbers = asked.ids.tolist()
    again = np.array([n in numbers[:row] for row, n in enumerate(numbers)], bool)
    lost = ~on_earth(asked.xy)
    sound = ~again & ~lost
    assert np.isin(answer.source[again & ~lost], [Source.DUPLICATE_ID]).all()
    assert np.isin(answer.source[lost & ~again], [Source.INVALID_STATE]).all()
    assert np.isin(answer.source[lost & again], [Source.INVALID_STATE, Source.DUPLICATE_ID]).all()
    if late:
        assert np.isin(answer.source[sound], [Source.OUT_OF_ORDER]).all()
    else:
        assert np.isin(answer.source[sound], [Source.BASELINE, Source.OVER_CAPACITY]).all()
        assert (answer.source == Source.BASELINE).sum() == min(sound.sum(), max_tracks)


@each_baseline
@settings(max_examples=30)
@given(ticks=st.lists(garbage_tick, min_size=1, max_size=8))
def test_no_garbage_breaks_a_promise(baseline, ticks):
    model_free = predictor(baseline, max_tracks=4, baseline_steps=3)
    now, newest, frame_id, late_frames, resets = S, None, None, 0, 0
    for forward, name, rows in ticks:
        now += forward
        asked = garbage_frame(now, name, rows)
        answer = model_free.step(asked)
        if frame_id not in (None, name):
            newest, resets = None, resets + 1
        frame_id = name
        late = newest is not None and 0 < newest - now <= 300_000_000
        late_frames += late
        resets += newest is not None and newest - now > 300_000_000
        newest = newest if late else now
        assert_promises(asked, answer)
        assert_sources(asked, answer, late, 4)
        assert len(model_free) <= 4
    assert model_free.counts.late_frames == late_frames
    assert model_free.counts.resets == resets
    assert model_free.counts.frames == len(ticks)
    assert sum(model_free.counts.answers.values()) == sum(len(rows) for *_, rows in ticks)


def on_earth(xy):
    """A position that is finite and at most 10,000 km from the origin can be one."""
    return (np.isfinite(xy) & (np.abs(xy) <= 1e7)).all(axis=1)


class SlowConstantVelocity:
    """Constant velocity as the contracts tell it, one car after the other, with unbounded room."""

    def __init__(self, max_age_ns, reorder_ns):
        self.max_age_ns, self.reorder_ns = max_age_ns, reorder_ns
        self.now, self.frame_id, self.seen = None, None, {}

    def step(self, asked):
        """Velocity of each row that is tracked, by row number."""
        if asked.frame_id != self.frame_id:
            self.now, self.frame_id, self.seen = None, asked.frame_id, {}
        if self.now is not None and asked.stamp_ns < self.now:
            if self.now - asked.stamp_ns <= self.reorder_ns:
                return {}
            self.seen = {}
        self.now = asked.stamp_ns
        velocities, here = {}, set()
        for row, name in enumerate(asked.ids.tolist()):
            if name in here or not on_earth(asked.xy)[row]:
                here.add(name)
                continue
            here.add(name)
            # All of it is kept: whom a jump made anew is who it was if the stamp comes again without it.
            before = [h for h in self.seen.get(name, []) if h[0] != self.now]
            history = before
            if history and self.now - history[-1][0] > self.max_age_ns:
                history = []
            if history:  # no car comes so far
                then, there = history[-1]
                reach = 3.0 + 70.0 * (self.now - then) / 1e9
                history = history if math.dist(asked.xy[row], there) <= reach else []
            told = asked.velocity[row] if asked.velocity_valid[row] else np.zeros(2)
            velocities[row] = told if (np.abs(told) <= 1e3).all() else np.zeros(2)
            if history:
                then, there = history[-1]
                velocity = (asked.xy[row] - there) / ((self.now - then) / 1e9)
                velocities[row] = velocity * min(1.0, 1e3 / max(1.0, math.hypot(*velocity)))
            self.seen[name] = [*before, (self.now, asked.xy[row])]
        return velocities


def at(number, y):
    return number, (0.0, y), 0.0, False, (0.0, 0.0), False, 0


@settings(max_examples=40)
@example([(0, "map", [at(1, 1.0)]), (1, "map", [at(1, 5.0)]), (0, "map", [at(1, 0.0)])])
@given(st.lists(garbage_tick, min_size=1, max_size=10))
def test_constant_velocity_is_that_of_the_slow_reference_whatever_comes_in(ticks):
    model_free = predictor(baseline_step_s=1.0, baseline_steps=2)
    slow = SlowConstantVelocity(3 * S, 300_000_000)
    now = S
    for forward, name, rows in ticks:
        now += forward
        asked = garbage_frame(now, name, rows)
        asked = replace(asked, label=np.full(len(asked), Label.CAR, np.uint8))
        answer, expected = model_free.step(asked), slow.step(asked)
        assert np.flatnonzero(answer.source == Source.BASELINE).tolist() == sorted(expected)
        for row, velocity in expected.items():
            np.testing.assert_allclose(answer.velocity[row], velocity, rtol=1e-9)
            path = asked.xy[row] + velocity * np.array([[1.0], [2.0]])
            np.testing.assert_allclose(answer.paths[row, 0], path, rtol=1e-9, atol=1e-6)


@each_baseline
def test_finite_paths_from_positions_that_are_finite_and_absurd(baseline):
    model_free = predictor(baseline)
    with np.errstate(all="ignore"):
        for tick, x in enumerate([1e308, -1e308, 1e308, 0.0, 1.0]):
            asked = frame(tick * 0.1, [1], [[x, -x]])
            assert_promises(asked, model_free.step(asked))


@each_baseline
def test_finite_paths_from_a_velocity_that_is_finite_and_absurd(baseline):
    asked = frame(0, [1], [[0, 0]], velocity=[[1e308, -1e308]])
    with np.errstate(all="ignore"):
        assert_promises(asked, predictor(baseline).step(asked))


@each_baseline
def test_an_absurd_position_does_not_spoil_the_track_for_good(baseline):
    model_free = predictor(baseline)
    with np.errstate(all="ignore"):
        for tick, x in enumerate([-1e308, 1e308, 2.0, 3.0, 4.0, 5.0]):
            asked = frame(tick * 0.1, [1], [[x, 0]])
            answer = model_free.step(asked)
    assert_promises(asked, answer)


def test_large_numbers_raise_no_warning():
    # 1e200 m is absurd but finite; its square is not.
    model_free = predictor()
    for tick in range(3):
        model_free.step(frame(tick * 0.1, [1], [[1e200 * tick, 0]]))


def by_hand():
    """One agent, one path that stops: at 1 s 4 m ahead, at 2 s 6 m ahead."""
    return Prediction(
        stamp_ns=7,
        frame_id="map",
        ids=ids_from_int([1]),
        offset_s=np.array([1.0, 2.0]),
        xy=np.array([[10.0, 0.0]]),
        heading=np.zeros(1),
        velocity=np.zeros((1, 2)),
        paths=np.array([[[[14.0, 0.0], [16.0, 2.0]]]]),
        probability=np.ones((1, 1)),
        mode_valid=np.ones((1, 1), bool),
        spread=np.array([[[1.0, 1.5]]]),
        single=np.array([[[12.0, 0.0], [14.0, 0.0]]]),
        source=np.zeros(1, np.uint8),
    )


def test_other_times_are_taken_from_the_straight_lines_between():
    other = resample(by_hand(), np.array([0.5, 1.0, 1.5, 2.0, 4.0]))
    assert other.offset_s.tolist() == [0.5, 1.0, 1.5, 2.0, 4.0]
    # Beyond 2 s it goes on at the last velocity, (2, 2) m/s, and the spread at 0.5 m/s.
    np.testing.assert_allclose(other.paths[0, 0], [[12, 0], [14, 0], [15, 1], [16, 2], [20, 6]])
    np.testing.assert_allclose(other.spread[0, 0], [0.5, 1.0, 1.25, 1.5, 2.5])
    np.testing.assert_allclose(other.single[0], [[11, 0], [12, 0], [13, 0], [14, 0], [18, 0]])
    assert (other.stamp_ns, other.frame_id, other.ids.tolist()) == (7, "map", by_hand().ids.tolist())


def test_the_same_times_are_the_same_prediction():
    assert_same(resample(by_hand(), np.array([1.0, 2.0])), by_hand())


def test_time_zero_is_where_the_agent_is():
    np.testing.assert_allclose(resample(by_hand(), np.array([0.0, 2.0])).paths[0, 0, 0], [10.0, 0.0])


def test_nobody_at_other_times_is_nobody():
    nobody = predictor(baseline_steps=3).step(frame(0, [], []))
    assert resample(nobody, np.array([0.1, 0.2])).paths.shape == (0, 1, 2, 2)
