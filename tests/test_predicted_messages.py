"""PredictedObjects: paths on the published time grid, byte by byte; and predictions read back."""

from __future__ import annotations

import numpy as np
import pytest

from tests.message_bytes import (
    COVARIANCE,
    SIGN_UNKNOWN,
    UNAVAILABLE,
    UUID,
    answer,
    every,
    header,
    paths_of,
    poses_of,
    prediction_for,
    put_shape,
    put_state,
    tracked,
    yaw_quaternion,
)
from trajpred import cdr, messages
from trajpred.bags import typestore
from trajpred.config import HorizonConfig, OutputConfig
from trajpred.errors import InputError
from trajpred.messages import (
    PREDICTED,
    TRACKED,
    decode_predicted,
    decode_tracked,
    encode_predicted,
    encode_tracked,
    frame_of,
    steps_by_label,
)
from trajpred.types import Label, TrackFrame, ids_from_int


def test_predicted_objects_byte_for_byte():
    """One object, one path of two poses: the layout of the interface, written by hand."""
    shape = (2, (0.0, 0.0, 1.8), [(0.5, 0.5, 0.0), (1.0, 0.0, 0.25)])
    classes = ((Label.CAR, 0.25), (Label.TRUCK, 0.5))
    raw = tracked(classes=classes, shape=shape)
    frame, arrays = decode_tracked(raw)
    out = encode_predicted(
        arrays, prediction_for(frame, [[[[2.0, 2.0]]]], 1.0, step_s=0.25), every(0.25, 0.25)
    )

    expected = put_state(header(1), classes, (1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0), (1.0, 0.0))
    expected.put("I", 1, 2).put("d", 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0)
    expected.put("d", 2.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0)
    expected.put("i", 0).put("I", 250_000_000).put("f", 1.0)
    assert out == put_shape(expected, *shape).bytes()


def test_each_object_gets_its_valid_modes_and_no_more():
    rng = np.random.default_rng(0)
    frame = TrackFrame.build(7, ids_from_int(range(3)), rng.normal(size=(3, 2)), yaw=rng.normal(size=3))
    _, arrays = decode_tracked(encode_tracked(frame))
    mode_valid = np.array([[True] * 4, [True, False, False, True], [False, True, False, False]])
    probability = mode_valid / mode_valid.sum(axis=1, keepdims=True)
    prediction = prediction_for(frame, rng.normal(size=(3, 4, 5, 2)), probability, mode_valid)
    out = encode_predicted(arrays, prediction, OutputConfig())
    objects = typestore().deserialize_cdr(out, PREDICTED)
    assert bytes(typestore().serialize_cdr(objects, PREDICTED)) == out
    assert [len(paths_of(objects, row)) for row in range(3)] == [4, 2, 1]


def test_the_input_is_copied_through():
    raw = tracked(classes=((Label.CAR, 0.25), (99, 0.5)), twist=(np.nan, 1.0))
    message = typestore().deserialize_cdr(raw, TRACKED)
    objects = answer(raw, np.zeros((1, 1, 3, 2)), 1.0)
    before, after = message.objects[0], objects.objects[0]
    assert objects.header == message.header
    assert bytes(after.object_id.uuid) == UUID
    assert after.existence_probability == 0.75
    assert after.classification == before.classification
    assert after.shape == before.shape
    pose = after.kinematics.initial_pose_with_covariance
    assert pose.pose == before.kinematics.pose_with_covariance.pose
    np.testing.assert_array_equal(pose.covariance, COVARIANCE)
    assert np.isnan(after.kinematics.initial_twist_with_covariance.twist.linear.x)
    assert after.kinematics.initial_acceleration_with_covariance.accel.linear.z == 3.0


def test_valid_modes_become_paths_the_most_probable_first():
    paths = np.zeros((1, 4, 2, 2)) + np.arange(4)[:, None, None]
    objects = answer(tracked(), paths, [0.2, 0.5, 0.0, 0.3], mode_valid=[[True, True, False, True]])
    found = paths_of(objects)
    assert [path.path[1].position.x for path in found] == [1.0, 3.0, 0.0]
    assert [path.confidence for path in found] == pytest.approx([0.5, 0.3, 0.2])


def test_at_most_ten_paths_whose_confidences_sum_to_one():
    probability = np.arange(20.0) / np.arange(20.0).sum()
    found = paths_of(answer(tracked(), np.zeros((1, 20, 2, 2)), probability))
    assert len(found) == 10
    assert found[0].confidence == pytest.approx(19 / sum(range(10, 20)))
    assert sum(path.confidence for path in found) == pytest.approx(1.0)


def test_paths_start_at_the_current_pose_and_point_along_the_way():
    orientation = yaw_quaternion(20)
    points = [[1.0, 3.0], [1.01, 3.0], [0.0, 3.0]]
    found = paths_of(answer(tracked(orientation=orientation), [[points]], 1.0))
    expected = [[1, 2, 3, 20], [1, 3, 3, 90], [1.01, 3, 3, 90], [0, 3, 3, 180]]
    np.testing.assert_allclose(np.abs(poses_of(found[0])), expected)


@pytest.mark.parametrize("availability", [UNAVAILABLE, SIGN_UNKNOWN])
def test_without_a_sure_orientation_the_predicted_heading_stands_in(availability):
    raw = tracked(orientation=yaw_quaternion(180), availability=availability)
    found = paths_of(answer(raw, [[[[1.0, 2.0]]]], 1.0, heading=np.radians(40)))
    np.testing.assert_allclose(poses_of(found[0])[:, 3], [40, 40])


def test_an_object_without_a_position_still_gets_finite_poses():
    raw = tracked(position=(np.nan, 2.0, np.nan), orientation=(np.nan, 0.0, 0.0, 1.0))
    objects = answer(raw, [[[[1.0, 2.0]]]], 1.0)
    assert np.isfinite(poses_of(paths_of(objects)[0])).all()
    assert np.isnan(objects.objects[0].kinematics.initial_pose_with_covariance.pose.position.x)


def test_time_step_of_more_than_a_second():
    step = paths_of(answer(tracked(), np.zeros((1, 1, 2, 2)), 1.0, step_s=1.25))[0].time_step
    assert (step.sec, step.nanosec) == (1, 250_000_000)


def test_between_the_predictors_times_a_path_is_straight():
    """1 m in half a second and 1 m in each of two halves more, then 1 m in a second."""
    points = [[2.0, 2.0], [3.0, 2.0], [4.0, 2.0]]
    found = paths_of(answer(tracked(), [[points]], 1.0, every(0.25, 2.0), offset_s=[0.5, 1.0, 2.0]))
    np.testing.assert_allclose(poses_of(found[0])[:, 0], [1, 1.5, 2, 2.5, 3, 3.25, 3.5, 3.75, 4])
    assert (found[0].time_step.sec, found[0].time_step.nanosec) == (0, 250_000_000)


def test_beyond_the_predictors_horizon_a_path_goes_on_at_its_last_velocity():
    """It stops turning: from (1, 2) to (2, 2) in the first second, to (2, 4) in the second one."""
    found = paths_of(answer(tracked(), [[[[2.0, 2.0], [2.0, 4.0]]]], 1.0, every(1.0, 4.0), step_s=1.0))
    poses = poses_of(found[0])
    np.testing.assert_allclose(poses[:, :2], [[1, 2], [2, 2], [2, 4], [2, 6], [2, 8]])
    np.testing.assert_allclose(poses[:, 3], [0, 0, 90, 90, 90])


def test_a_horizon_before_the_predictors_cuts_the_path():
    points = [[2.0, 2.0], [3.0, 2.0], [4.0, 2.0]]
    (path,) = paths_of(answer(tracked(), [[points]], 1.0, every(0.5, 1.0)))
    np.testing.assert_array_equal(poses_of(path)[:, 0], [1, 2, 3])


def test_by_default_there_is_a_pose_every_half_second_to_ten():
    (path,) = paths_of(answer(tracked(), [[[[2.0, 2.0]]]], 1.0, OutputConfig(), step_s=1.0))
    np.testing.assert_allclose(poses_of(path)[:, 0], 1.0 + 0.5 * np.arange(21))
    assert (path.time_step.sec, path.time_step.nanosec) == (0, 500_000_000)


def test_every_class_has_the_horizon_of_its_group():
    """As Autoware's node groups them; a class without a meaning is unknown."""
    vehicle, pedestrian = (1, 2, 3, 4, 5), (6, 7)
    output = OutputConfig(0.5, HorizonConfig(vehicle=6.0, pedestrian=4.0, unknown=2.0))
    labels = np.arange(14)
    frame = TrackFrame.build(0, ids_from_int(labels), np.zeros((14, 2)), label=labels)
    _, arrays = decode_tracked(encode_tracked(frame))
    prediction = prediction_for(frame, np.ones((14, 2, 3, 2)), 0.5)
    answers = cdr.read_predicted(encode_predicted(arrays, prediction, output))
    poses = np.diff(answers.pose_start).reshape(14, 2)
    for label in labels:
        expected = 13 if label in vehicle else 9 if label in pedestrian else 5
        assert poses[label].tolist() == [expected] * 2, label
    np.testing.assert_allclose(answers.poses[:5, 0], [0, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        (every(0.0, 10.0), "output.step_s is 0.0 s"),
        (every(-0.5, 10.0), "output.step_s is -0.5 s"),
        (every(np.nan, 10.0), "output.step_s is nan s"),
        (every(0.5, np.nan), "output.horizon_s.vehicle is nan s"),
        (every(0.5, np.inf), "output.horizon_s.vehicle is inf s"),
        (OutputConfig(0.5, HorizonConfig(pedestrian=0.4)), "output.horizon_s.pedestrian is 0.4 s"),
        (OutputConfig(0.1, HorizonConfig(9.9, 9.9, 10.0)), "output.horizon_s.unknown: .* are 101 poses"),
    ],
)
def test_an_output_that_cannot_be_is_refused_by_the_name_of_its_setting(output, complaint):
    with pytest.raises(InputError, match=complaint):
        steps_by_label(output)


def test_a_hundred_poses_are_allowed():
    x = 1.0 + np.arange(1, 199) * 0.1
    points = np.stack([x, np.full(198, 2.0)], axis=1)
    (path,) = paths_of(answer(tracked(), [[points]], 1.0, every(0.1, 9.9), step_s=0.1))
    np.testing.assert_allclose(poses_of(path)[:, 0], 1.0 + np.arange(100) * 0.1)


def test_a_prediction_of_other_objects_is_refused():
    frame, _ = decode_tracked(tracked())
    _, nobody = decode_tracked(header(0).bytes())
    with pytest.raises(ValueError, match="1 predictions for 0 objects"):
        encode_predicted(nobody, prediction_for(frame, np.zeros((1, 1, 1, 2)), 1.0), OutputConfig())


def test_the_message_type_has_its_upstream_name():
    assert TRACKED == "autoware_perception_msgs/msg/TrackedObjects"
    assert PREDICTED == "autoware_perception_msgs/msg/PredictedObjects"


def predicted(*paths, orientation=(0.0, 0.0, 0.0, 1.0), twist=(1.0, 0.0), count=1):
    """The bytes of a PredictedObjects of one object (and copies); paths: (seconds, confidence, points)."""
    cdr_bytes = header(count)
    for _ in range(count):
        put_state(cdr_bytes, ((Label.CAR, 1.0),), (1.0, 2.0, 3.0), orientation, twist)
        cdr_bytes.put("I", len(paths))
        for seconds, confidence, points in paths:
            cdr_bytes.put("I", len(points))
            for x, y in points:
                cdr_bytes.put("d", x, y, 0.0, *yaw_quaternion(30))
            cdr_bytes.put("i", int(seconds)).put("I", round(seconds % 1 * 1e9)).put("f", confidence)
        put_shape(cdr_bytes, 0, (4.0, 2.0, 1.5))
    return cdr_bytes.bytes()


def test_what_was_published_is_a_prediction_again():
    paths = ((0.5, 0.75, [(1, 2), (2, 2), (3, 2)]), (0.5, 0.25, [(1, 2), (1, 3), (1, 5)]))
    found, arrays = decode_predicted(predicted(*paths, orientation=yaw_quaternion(90), twist=(3.0, 0.0)))
    assert (found.stamp_ns, found.frame_id, bytes(found.ids[0])) == (1_700_000_000_250, "map", UUID)
    np.testing.assert_array_equal(found.offset_s, [0.5, 1.0])
    np.testing.assert_array_equal(found.xy, [[1.0, 2.0]])
    np.testing.assert_allclose(found.heading, np.radians([30]))
    np.testing.assert_allclose(found.velocity, [[0.0, 3.0]], atol=1e-12)
    np.testing.assert_allclose(found.paths, [[[[2, 2], [3, 2]], [[1, 3], [1, 5]]]])
    np.testing.assert_allclose(found.probability, [[0.75, 0.25]])
    assert found.mode_valid.all()
    assert arrays.path_start.tolist() == [0, 2]


def test_a_prediction_survives_the_message():
    rng = np.random.default_rng(3)
    frame = TrackFrame.build(7, ids_from_int(range(4)), rng.normal(size=(4, 2)), yaw=rng.uniform(-3, 3, 4))
    mode_valid = np.array([[True] * 3, [True, False, True], [False, True, False], [True] * 3])
    probability = np.where(mode_valid, [0.5, 0.3, 0.2], 0.0)
    probability /= probability.sum(axis=1, keepdims=True)
    prediction = prediction_for(frame, rng.normal(size=(4, 3, 5, 2)), probability, mode_valid)
    arrays = decode_tracked(encode_tracked(frame))[1]
    back, _ = decode_predicted(encode_predicted(arrays, prediction, every(0.5, 2.5)))
    np.testing.assert_allclose(back.offset_s, prediction.offset_s)
    np.testing.assert_array_equal(back.ids, frame.ids)
    np.testing.assert_allclose(back.xy, frame.xy)
    np.testing.assert_allclose(back.heading, frame.yaw)
    for row in range(4):
        modes = np.flatnonzero(mode_valid[row])  # already in falling probability
        assert back.mode_valid[row].tolist() == [True] * len(modes) + [False] * (3 - len(modes))
        np.testing.assert_allclose(back.paths[row, : len(modes)], prediction.paths[row, modes])
        np.testing.assert_allclose(back.probability[row, : len(modes)], probability[row, modes], rtol=1e-6)
    assert (back.probability[~back.mode_valid] == 0).all()


def test_paths_of_different_steps_and_lengths_meet_on_the_finest_step_up_to_the_shortest_horizon():
    """At 1 m/s: every second for 3 s, and every 0.4 s for 2 s. On 0.4, 0.8 ... 2 s."""
    coarse = (1.0, 0.5, [(1, 2), (2, 2), (3, 2), (4, 2)])
    fine = (0.4, 0.5, [(1.0, 2 - 0.4 * i) for i in range(6)])
    found, _ = decode_predicted(predicted(coarse, fine))
    np.testing.assert_allclose(found.offset_s, [0.4, 0.8, 1.2, 1.6, 2.0])
    np.testing.assert_allclose(found.paths[0, 0, :, 0], [1.4, 1.8, 2.2, 2.6, 3.0])
    np.testing.assert_allclose(found.paths[0, 1, :, 1], [1.6, 1.2, 0.8, 0.4, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [((0.0, 0.0), (0.5, 0.5)), ((3.0, 1.0), (0.75, 0.25)), ((np.nan, 1.0), (0, 1)), ((-1.0, 0.5), (0, 1))],
)
def test_confidences_become_shares(confidence, expected):
    points = [(1, 2), (2, 2)]
    found, _ = decode_predicted(predicted(*((0.5, c, points) for c in confidence)))
    np.testing.assert_allclose(found.probability, [expected])


@pytest.mark.parametrize(
    ("paths", "complaint"),
    [
        ((), "object 0 .* has no path"),
        (((0.5, 1.0, [(1, 2)]),), "fewer than two poses"),
        (((0.0, 1.0, [(1, 2), (1, 3)]),), "time step is not above 0"),
        (((-1.0, 1.0, [(1, 2), (1, 3)]),), "time step is not above 0"),
        (((0.5, 1.0, [(1, 2), (np.nan, 3)]),), "pose that is not finite"),
        (((0.5, 0.01, [(1, 2), (1, 3)]),) * 101, "more than 100 paths"),
        (((0.5, 1.0, [(1, 2)] * 1001),), "path of more than 1000 poses"),
    ],
)
def test_what_is_no_prediction_is_an_input_error(paths, complaint):
    with pytest.raises(InputError, match=complaint):
        decode_predicted(predicted(*paths, count=2))


def test_a_fine_path_among_many_takes_no_memory(monkeypatch):
    """All paths are put on the times of the finest, so their number is bounded before they are."""
    monkeypatch.setattr(messages, "POINTS_READ_MAX", 2 * 2 * 4)
    paths = [(0.5, 1.0, [(1, 2)] * 5), (0.5, 1.0, [(1, 2)] * 6)]
    assert decode_predicted(predicted(*paths, count=2))[0].paths.shape == (2, 2, 4, 2)
    with pytest.raises(InputError, match=r"3 objects of up to 2 paths .* more than 16 points at the 4 times"):
        decode_predicted(predicted(*paths, count=3))


def test_many_objects_are_what_each_of_them_is():
    rng = np.random.default_rng(5)
    n = 40
    frame = TrackFrame.build(0, ids_from_int(range(n)), rng.normal(size=(n, 2)), yaw=rng.uniform(-3, 3, n))
    arrays = decode_tracked(encode_tracked(frame))[1]
    mode_valid = rng.random((n, 3)) < 0.6
    mode_valid[:, 0] = True
    paths = frame.xy[:, None, None] + rng.normal(size=(n, 3, 6, 2)) * rng.choice([0.01, 5.0], (n, 1, 1, 1))
    prediction = prediction_for(frame, paths, rng.random((n, 3)), mode_valid)
    together = cdr.read_predicted(encode_predicted(arrays, prediction, OutputConfig()))
    poses = []
    for row in range(n):
        one = TrackFrame.build(0, frame.ids[row : row + 1], frame.xy[row : row + 1], yaw=frame.yaw[row])
        alone = decode_tracked(encode_tracked(one))[1]
        poses.append(
            cdr.read_predicted(encode_predicted(alone, prediction.take([row]), OutputConfig())).poses
        )
    np.testing.assert_array_equal(together.poses, np.concatenate(poses))


def test_the_frame_of_arrays_is_the_decoded_one():
    frame, arrays = decode_tracked(tracked(orientation=yaw_quaternion(90)))
    np.testing.assert_array_equal(frame_of(arrays).yaw, frame.yaw)
