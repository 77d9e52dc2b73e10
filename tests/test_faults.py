"""What perception can do to the predictor with the model in the box."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.riders import ahead, at_10_hz, called, checked, frame, played, riders
from tests.test_predictor import BASELINES, S, assert_same, garbage_frame, garbage_tick
from trajpred import cdr
from trajpred.config import OutputConfig, PredictorConfig
from trajpred.flicker import flicker
from trajpred.messages import decode_predicted, decode_tracked, encode_predicted, encode_tracked
from trajpred.predictor import Predictor
from trajpred.types import Label, Source, ids_from_int

HOUR_S = 3600
STANDS_M = 0.05
"""How far the path of someone who stands may go, and change from one tick to the next."""

WRONG = frame(2.0, [0, 1, 7], [(80.0, 80.0), (-9.0, 3.0), (4.0, 4.0)], label=Label.CAR, yaw=2.0)


@pytest.mark.parametrize(
    ("disturbance", "late"),
    [
        pytest.param([riders(2.0)], 0, id="a repeated stamp"),
        pytest.param([WRONG, WRONG, riders(2.0)], 0, id="a repeated stamp that replaces what was wrong"),
        pytest.param([riders(1.9)], 1, id="a jump back by 0.1 s"),
        pytest.param([replace(WRONG, stamp_ns=WRONG.stamp_ns - S // 10)], 1, id="a wrong frame that is late"),
        pytest.param([riders(t) for t in (1.7, 1.9, 1.8, 2.0, 1.8)], 4, id="a burst out of order"),
        pytest.param([frame(1.9, [], []), frame(2.0, [], [])], 1, id="frames without objects"),
    ],
)
def test_what_comes_twice_or_late_leaves_no_trace(model, disturbance, late):
    disturbed, plain = Predictor(model), Predictor(model)
    for one in at_10_hz(0, 21):
        assert_same(disturbed.step(one), plain.step(one))
    for one in disturbance:
        answer = checked(disturbed, one)
        if one.stamp_ns < riders(2.0).stamp_ns:
            assert set(answer.source) <= {Source.OUT_OF_ORDER}
    for one in at_10_hz(21, 24):
        answer = checked(disturbed, one)
        assert_same(answer, plain.step(one))
    assert answer.source.tolist() == [Source.MODEL] * 3
    assert (disturbed.counts.late_frames, disturbed.counts.resets) == (late, 0)


@pytest.mark.parametrize(
    ("disturbance", "then", "resets"),
    [
        pytest.param([], partial(riders, stamp_s=-1.0), 1, id="a jump back by a second"),
        pytest.param([], partial(riders, stamp_s=-HOUR_S), 1, id="a jump back by an hour"),
        pytest.param([], partial(riders, stamp_s=HOUR_S), 0, id="a gap of an hour"),
        pytest.param([], partial(riders, frame_id="odom"), 1, id="another frame"),
        pytest.param([], partial(riders, frame_id=""), 1, id="an empty frame id"),
        pytest.param([riders(2.0, frame_id="")], riders, 2, id="one empty frame id"),
        pytest.param([replace(riders(2.0), stamp_ns=0)], riders, 1, id="one stamp of zero"),
        pytest.param(
            [replace(riders(2.0), stamp_ns=-(2**31) * S)], riders, 1, id="one stamp long before 1970"
        ),
        pytest.param([replace(riders(2.0), stamp_ns=(2**31 - 1) * S)], riders, 1, id="one in the far future"),
    ],
)
def test_what_makes_the_past_useless_is_counted_and_all_starts_as_new(model, disturbance, then, resets):
    disturbed, fresh = Predictor(model), Predictor(model)
    for one in [*at_10_hz(0, 20), *disturbance]:
        checked(disturbed, one)
    for tick in range(21, 24):
        one = then(0.1 * tick)
        assert_same(checked(disturbed, one), fresh.step(one))
    assert (disturbed.counts.late_frames, disturbed.counts.resets) == (0, resets)
    assert disturbed.counts.answers[Source.MODEL] == sum(disturbed.counts.answers.values())


def test_a_track_that_comes_back_after_the_limit_is_a_new_one(model):
    """While two others are seen all the time."""
    back, new = (Predictor(model, PredictorConfig(max_age_s=1.0)) for _ in range(2))
    for tick in range(30):
        back.step(riders(0.1 * tick, count=2 if 10 <= tick < 25 else 3))
        new.step(riders(0.1 * tick, count=2 if tick < 25 else 3))
    one = riders(3.0)
    assert_same(checked(back, one), new.step(one))


def test_one_missed_frame_changes_little(model):
    missed, plain = Predictor(model), Predictor(model)
    for tick in range(30):
        one = riders(0.1 * tick)
        expected = plain.step(one)
        answer = checked(missed, riders(0.1 * tick, count=0) if tick == 25 else one)
    assert answer.source.tolist() == [Source.MODEL] * 3
    np.testing.assert_allclose(answer.single, expected.single, atol=0.2)


def test_the_second_of_two_equal_ids_gets_the_baseline_and_the_first_is_followed(model):
    doubled, plain = Predictor(model), Predictor(model)
    for tick in range(10):
        one = riders(0.1 * tick)
        expected = plain.step(replace(one, ids=ids_from_int([0, 1, 2])))
        twice = frame(0.1 * tick, [0, 1, 2, 1], [*one.xy, (40.0, 40.0)], label=Label.BICYCLE)
        twice.yaw[:3], twice.yaw_valid[:3] = one.yaw, one.yaw_valid
        twice.velocity[:3], twice.velocity_valid[:3] = one.velocity, one.velocity_valid
        answer = checked(doubled, twice)
        assert answer.source.tolist() == [Source.MODEL] * 3 + [Source.DUPLICATE_ID]
        np.testing.assert_allclose(answer.single[:3], expected.single, atol=1e-4)
    assert doubled.counts.answers[Source.DUPLICATE_ID] == 10
    assert len(doubled) == 3


def stamps(rate):
    """Of 6 s."""
    rng = np.random.default_rng(0)
    if rate == "jittered":
        return np.cumsum(rng.choice([0.02, 0.05, 0.1, 0.2, 0.5, 1.0], 20))
    if rate == "in bursts":
        return np.add.outer(np.arange(0.0, 6.0, 0.5), 0.002 * np.arange(5)).ravel()
    return np.arange(0.0, 6.0, 1.0 / rate)


@pytest.mark.parametrize(("label", "mps"), [(Label.BICYCLE, 5.0), (Label.PEDESTRIAN, 1.4)])
@pytest.mark.parametrize("rate", [1, 2, 5, 10, 20, 50, "jittered", "in bursts"])
def test_a_steady_road_user_is_followed_at_any_rate(model, rate, label, mps):
    """To a tenth of its way in 3 s."""
    known = {"label": label, "yaw": 0.0, "velocity": (mps, 0.0)}
    answer = played(model, [frame(t, [1], [(mps * t, 0.0)], **known) for t in stamps(rate)])
    assert answer.source.tolist() == [Source.MODEL]
    np.testing.assert_allclose(ahead(answer, 3.0), [(3.0 * mps, 0.0)], atol=0.3 * mps)


@pytest.mark.parametrize("way", [1.0, -1.0], ids=["side by side", "head-on"])
def test_two_whose_ids_are_exchanged_are_followed_again_soon(model, way):
    """They ride 4 m apart when it happens; 4 s later it hardly matters any more."""
    yaw, mps = [0.0, 0.0 if way > 0 else np.pi], np.array([5.0, 5.0 * way])
    velocity = np.stack([mps, np.zeros(2)], axis=1)
    switched, plain = Predictor(model), Predictor(model)
    for tick in range(70):
        t = 0.1 * tick
        xy = np.stack([mps * (t - 3.0), [0.0, 4.0]], axis=1)
        known = {"label": Label.BICYCLE, "yaw": yaw, "velocity": velocity}
        exchanged = [[0, 1], [1, 0]][tick >= 30]
        answer = checked(switched, frame(t, np.array([1, 2])[exchanged], xy, **known))
        expected = plain.step(frame(t, [1, 2], xy, **known))
        assert answer.source.tolist() == [Source.MODEL] * 2
    np.testing.assert_allclose(ahead(answer, 3.0), ahead(expected, 3.0), atol=0.5)


@pytest.mark.parametrize("told", [True, False], ids=["pose and velocity", "position alone"])
@pytest.mark.parametrize(("label", "mps"), [(Label.CAR, 8.0), (Label.BICYCLE, 5.0), (Label.PEDESTRIAN, 1.4)])
def test_after_a_jump_of_50_m_the_motion_begins_anew(model, label, mps, told):
    """To 15 % of the way in 3 s of no jump: at once where the velocity is told, else one message later."""
    known = {"label": label, **({"yaw": 0.0, "velocity": (mps, 0.0)} if told else {})}
    jumped, plain = Predictor(model), Predictor(model)
    for tick in range(81):
        x = 0.1 * tick * mps
        answer = checked(jumped, frame(0.1 * tick, [1], [(x, 50.0 if tick > 30 else 0.0)], **known))
        expected = plain.step(frame(0.1 * tick, [1], [(x, 0.0)], **known))
        assert answer.source.tolist() == [Source.MODEL]
        if tick != 31 or told:
            np.testing.assert_allclose(ahead(answer, 3.0), ahead(expected, 3.0), atol=0.15 * 3.0 * mps)
    assert jumped.counts.leaps == 1


def test_a_jump_that_is_taken_back_at_the_same_stamp_leaves_no_trace(model):
    jumped, plain = Predictor(model), Predictor(model)
    for tick in range(30):
        one = riders(0.1 * tick)
        if tick == 20:
            checked(jumped, replace(one, xy=one.xy + 50.0))
        assert_same(checked(jumped, one), plain.step(one))
    assert jumped.counts.leaps == 3


@pytest.mark.parametrize(("label", "mps"), [(Label.CAR, 8.0), (Label.CAR, 2.0), (Label.BICYCLE, 5.0)])
def test_a_yaw_that_flips_by_half_a_turn_turns_nobody_round(model, label, mps):
    predictor = Predictor(model)
    for tick in range(60):
        yaw = np.pi if tick >= 20 and tick % 7 == 0 else 0.0
        x = 0.1 * tick * mps
        answer = checked(
            predictor, frame(0.1 * tick, [1], [(x, 0.0)], label=label, yaw=yaw, velocity=(mps, 0))
        )
        if tick >= 20:
            assert 0.5 < ahead(answer, 3.0)[0, 0] / (3.0 * mps) < 1.5, tick


@pytest.mark.parametrize(("label", "mps"), [(Label.CAR, 2.0), (Label.TRUCK, 1.5)])
def test_a_vehicle_that_reverses_is_followed_backwards(model, label, mps):
    """And its poses, as published, keep its yaw."""
    predictor, known = Predictor(model), {"label": label, "yaw": 0.5, "velocity": mps * AWAY}
    for tick in range(41):
        asked, tracked = decode_tracked(
            encode_tracked(frame(0.1 * tick, [1], 0.1 * tick * mps * AWAY, **known))
        )
        answer = checked(predictor, asked)
    assert 0.5 < ahead(answer, 3.0)[0] @ AWAY / (3.0 * mps) < 1.5
    out = cdr.read_predicted(encode_predicted(tracked, answer, OutputConfig()))
    poses = out.poses[: out.pose_start[1]]  # of the most probable path
    assert (poses[-1, :2] - poses[0, :2]) @ AWAY > mps
    assert turn(2 * np.arctan2(poses[:, 5], poses[:, 6]), 0.5).max() < np.pi / 4


AWAY = -np.array([np.cos(0.5), np.sin(0.5)])
STANDING = (Label.CAR, Label.TRUCK, Label.BUS, Label.BICYCLE, Label.PEDESTRIAN, Label.UNKNOWN)


def standing(tick, noise_m=0.0, **known):
    """One of each class, 60 m apart, that does not move; noise_m: of a tracker's position."""
    xy = np.zeros((len(STANDING), 2))
    xy[:, 0] = 60.0 * np.arange(len(STANDING))
    xy += noise_m * np.random.default_rng(tick).normal(size=xy.shape)
    return frame(0.1 * tick, range(len(STANDING)), xy, label=STANDING, **known)


each_way_to_know = pytest.mark.parametrize(
    "known", [{}, {"yaw": 1.0, "velocity": (0.0, 0.0)}], ids=["position alone", "pose and velocity"]
)


@each_way_to_know
def test_the_path_of_who_stands_does_not_wander(model, known):
    answer = played(model, [standing(tick, **known) for tick in range(50)])
    assert np.abs(answer.single - answer.xy[:, None]).max() < STANDS_M


def most_probable_poses(model, noise_m, **known):
    """(T, N, P, 7) of what is published, from two seconds on."""
    predictor, found = Predictor(model), []
    for tick in range(80):
        asked, tracked = decode_tracked(encode_tracked(standing(tick, noise_m, **known)))
        out = cdr.read_predicted(encode_predicted(tracked, checked(predictor, asked), OutputConfig()))
        first = out.pose_start[out.path_start[:-1]]
        found.append(out.poses[first[:, None] + np.arange(17)])  # 8 s, the shortest horizon being 10 s
    return np.array(found[20:])


def turn(yaw, since):
    return np.abs((yaw - since + np.pi) % (2 * np.pi) - np.pi)


@pytest.mark.parametrize("noise_m", [0.0, 0.02, 0.05])
@each_way_to_know
def test_the_published_path_of_who_stands_does_not_wander_nor_its_poses_turn(model, known, noise_m):
    """The most probable one, of each class; nor does its yaw from one message to any later one."""
    poses = most_probable_poses(model, noise_m, **known)
    xy, yaw = poses[..., :2], 2 * np.arctan2(poses[..., 5], poses[..., 6])
    assert np.abs(xy[:, :, 1:] - xy[:, :, 1:2]).max() < STANDS_M  # behind path[0], the noisy position itself
    assert np.hypot(*np.moveaxis(xy[:, :, 1] - xy[:, :, 0], -1, 0)).max() <= 5.0 * noise_m + STANDS_M
    assert turn(yaw, yaw[:, :, :1]).max() < np.radians(1)
    assert turn(yaw, yaw[:1]).max() < np.radians(1)


@pytest.mark.parametrize("noise_m", [0.0, 0.02])
@each_way_to_know
def test_the_paths_of_who_stands_do_not_flicker(model, known, noise_m):
    predictor, before, changes = Predictor(model), None, []
    for tick in range(60):
        answer = checked(predictor, standing(tick, noise_m, **known))
        if tick >= 20:
            changes.append(flicker(before, answer))
        before = answer
    assert np.mean(changes) < STANDS_M


@pytest.mark.parametrize("taken_for", [Label.PEDESTRIAN, Label.CAR, Label.UNKNOWN, Label.ANIMAL])
@pytest.mark.parametrize("wrong_in_a_row", [1, 2])
def test_a_class_that_flickers_is_not_believed(model, taken_for, wrong_in_a_row):
    flickering, plain = Predictor(model), Predictor(model)
    for tick in range(40):
        one = riders(0.1 * tick)
        wrong = tick % 3 > 2 - wrong_in_a_row
        assert_same(checked(flickering, called(one, taken_for) if wrong else one), plain.step(one))


@pytest.mark.parametrize(
    ("first", "then", "believed"),
    [
        (Label.PEDESTRIAN, Label.BICYCLE, 3),
        (Label.ANIMAL, Label.BICYCLE, 3),
        (Label.UNKNOWN, Label.BICYCLE, 1),
    ],
)
def test_another_class_is_believed_when_it_stays(model, first, then, believed):
    """At once where none was known."""
    predictor, stays = Predictor(model), Predictor(model)
    for tick in range(12):
        one = called(riders(0.1 * tick), first if tick < 8 else then)
        answer, old = checked(predictor, one), stays.step(called(one, first))
        same = np.array_equal(answer.single, old.single)
        assert same == (tick < 7 + believed)


@pytest.mark.parametrize("label", [12, 99, 255])
def test_a_label_that_is_none_is_an_unknown_class(model, label):
    answer = played(model, [replace(one, label=np.full(3, label, np.uint8)) for one in at_10_hz(0, 5)])
    expected = played(model, [replace(one, label=np.zeros(3, np.uint8)) for one in at_10_hz(0, 5)])
    assert_same(answer, expected)


def state(columns, *values):
    """In the place of these columns of the second object's state."""

    def edit(objects):
        edited = objects.state.copy()
        edited[1, columns] = values
        return replace(objects, state=edited)

    return edit


def column(name, value):
    """In the place of what the second object has there."""

    def edit(objects):
        edited = getattr(objects, name).copy()
        edited[1] = value
        return replace(objects, **{name: edited})

    return edit


def classes(*labels):
    """In the place of the second object's; (label, probability) each."""

    def edit(objects):
        before, behind = (objects.class_label[0], 1.0), (objects.class_label[2], 1.0)
        every = [before, *labels, behind]
        return replace(
            objects,
            class_start=np.array([0, 1, 1 + len(labels), 2 + len(labels)]),
            class_label=np.array([label for label, _ in every], np.uint8),
            class_probability=np.array([share for _, share in every], np.float32),
        )

    return edit


LOST = Source.INVALID_STATE
GARBAGE = {
    "position of NaN": (state(cdr.POSITION, np.nan, 0.0, 0.0), LOST, False),
    "position of infinity": (state(cdr.POSITION, 0.0, -np.inf, 0.0), LOST, False),
    "position of 1e9 m": (state(cdr.POSITION, 1e9, 0.0, 0.0), LOST, False),
    "height of NaN": (state(slice(2, 3), np.nan), Source.MODEL, True),
    "zero quaternion": (state(cdr.ORIENTATION, 0.0, 0.0, 0.0, 0.0), Source.MODEL, False),
    "quaternion of NaN": (state(cdr.ORIENTATION, np.nan, 0.0, 0.0, 1.0), Source.MODEL, False),
    "quaternion of 1e300": (state(cdr.ORIENTATION, 1e300, 1e300, 0.0, 0.0), Source.MODEL, False),
    "twist of NaN": (state(slice(43, 45), np.nan, 0.0), Source.MODEL, False),
    "twist of 1e300 m/s": (state(slice(43, 45), 1e300, -1e300), Source.MODEL, False),
    "turn rate of infinity": (state(slice(48, 49), np.inf), Source.MODEL, True),
    "acceleration of NaN": (state(cdr.ACCELERATION, *[np.nan] * 6), Source.MODEL, True),
    "covariance of NaN": (state(cdr.POSE_COVARIANCE, *[np.nan] * 36), Source.MODEL, True),
    "negative covariance": (state(cdr.TWIST_COVARIANCE, *[-1e300] * 36), Source.MODEL, True),
    "infinite covariance": (state(cdr.ACCELERATION_COVARIANCE, *[np.inf] * 36), Source.MODEL, True),
    "negative dimensions": (column("dimensions", (-4.5, -1.8, -1.5)), Source.MODEL, True),
    "dimensions of NaN": (column("dimensions", (np.nan, np.inf, 0.0)), Source.MODEL, True),
    "shape of no kind": (column("shape_type", 77), Source.MODEL, True),
    "existence of NaN": (column("existence", np.nan), Source.MODEL, True),
    "orientation of no availability": (column("availability", 200), Source.MODEL, False),
    "no class": (classes(), Source.MODEL, False),
    "an unknown label": (classes((99, 1.0)), Source.MODEL, False),
    "classes of NaN": (classes((Label.CAR, np.nan), (Label.BUS, np.nan)), Source.MODEL, False),
    "negative classes": (classes((Label.BICYCLE, -1.0)), Source.MODEL, True),
}


@pytest.mark.parametrize(("edit", "source", "as_healthy"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_an_object_is_answered_copied_through_and_harms_no_other(model, edit, source, as_healthy):
    """Three ride 60 m apart, one of them with garbage in every message."""
    ill, healthy = Predictor(model), Predictor(model)
    for tick in range(10):
        one = riders(0.1 * tick)
        one = replace(one, xy=one.xy * (1.0, 20.0), size=np.full((3, 3), 1.5), size_valid=np.ones(3, bool))
        objects = edit(cdr.read_tracked(encode_tracked(one)))
        asked, tracked = decode_tracked(cdr.write_tracked(objects))
        answer, expected = checked(ill, asked), healthy.step(one)
        raw = encode_predicted(tracked, answer, OutputConfig())
        found, out = decode_predicted(raw)
        assert np.isfinite(out.poses).all()
        np.testing.assert_allclose(found.probability.sum(axis=1), 1.0, atol=1e-6)
        assert out.ids.tolist() == one.ids.tolist()
        for name in ("existence", "class_label", "class_probability", "state", "shape_type", "dimensions"):
            assert getattr(out, name).tobytes() == getattr(objects, name).tobytes(), name
    assert answer.source.tolist() == [Source.MODEL, source, Source.MODEL]
    assert ill.counts.answers[LOST] == (10 if source is LOST else 0)
    sound = [0, 1, 2] if as_healthy else [0, 2]
    np.testing.assert_allclose(answer.paths[sound], expected.paths[sound], atol=1e-4)


@settings(max_examples=30)
@given(ticks=st.lists(garbage_tick, min_size=1, max_size=8), baseline=st.sampled_from(BASELINES))
def test_no_garbage_breaks_a_promise_of_the_model(model, ticks, baseline):
    predictor = Predictor(model, PredictorConfig(max_tracks=4, baseline=baseline))
    now_ns = S
    for forward_ns, frame_id, rows in ticks:
        now_ns += forward_ns
        checked(predictor, garbage_frame(now_ns, frame_id, rows))
        assert len(predictor) <= 4
    assert predictor.counts.answers.total() == sum(len(rows) for *_, rows in ticks)
    assert predictor.counts.failed_calls == 0


@pytest.mark.parametrize("count", [0, 1, 500, 5000])
def test_any_number_of_objects_is_answered(model, count):
    predictor, rng = Predictor(model), np.random.default_rng(0)
    xy = rng.uniform(-200.0, 200.0, (count, 2))
    for tick in range(3):
        one = frame(0.1 * tick, range(count), xy + 0.5 * tick, label=Label.CAR, yaw=0.8, velocity=(5.0, 5.0))
        asked, tracked = decode_tracked(encode_tracked(one))
        answer = checked(predictor, asked)
        found, _ = decode_predicted(encode_predicted(tracked, answer, OutputConfig()))
        assert found.ids.tolist() == one.ids.tolist()
        assert np.isfinite(found.paths).all()
    assert answer.source.tolist() == [Source.MODEL] * count
    assert len(predictor) == count
