"""Objects in another coordinate frame: by hand, and over real tf2 where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from trajpred.cdr import POSE, POSE_COVARIANCE, read_tracked
from trajpred.messages import encode_tracked, frame_of
from trajpred.types import TrackFrame, ids_from_int
from trajpred_ros.transforms import transformed

QUARTER_TURN = np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
SHIFT = np.array([10.0, 20.0, 1.0])


def tracked(**known):
    frame = TrackFrame.build(5, ids_from_int([1, 2]), [[1.0, 0.0], [0.0, 2.0]], frame_id="base_link", **known)
    return read_tracked(encode_tracked(frame))


def test_a_quarter_turn_and_a_shift_by_hand():
    moved = transformed(
        tracked(yaw=[0.0, np.pi / 2], velocity=[[3.0, 0.0], [0.0, 3.0]]), "map", SHIFT, QUARTER_TURN
    )
    assert moved.frame_id == "map"
    # (1, 0) turned a quarter to the left is (0, 1); (0, 2) is (-2, 0)
    np.testing.assert_allclose(moved.state[:, :3], [[10.0, 21.0, 1.0], [8.0, 20.0, 1.0]], atol=1e-12)
    frame = frame_of(moved)
    np.testing.assert_allclose(np.abs(frame.yaw), [np.pi / 2, np.pi], atol=1e-12)
    np.testing.assert_allclose(frame.velocity, [[0.0, 3.0], [-3.0, 0.0]], atol=1e-12)
    assert frame.yaw_valid.all()


def test_velocity_turns_where_the_orientation_is_unknown():
    frame = frame_of(transformed(tracked(velocity=[[3.0, 0.0], [0.0, 3.0]]), "map", SHIFT, QUARTER_TURN))
    assert not frame.yaw_valid.any()
    np.testing.assert_allclose(frame.velocity, [[0.0, 3.0], [-3.0, 0.0]], atol=1e-12)


def test_an_empty_orientation_means_the_axes_of_the_header():
    given = tracked(velocity=[[3.0, 0.0], [0.0, 3.0]])
    given.state[:, 3:7] = 0.0
    moved = transformed(given, "map", SHIFT, QUARTER_TURN)
    np.testing.assert_allclose(moved.state[:, 3:7], [QUARTER_TURN, QUARTER_TURN])
    np.testing.assert_allclose(frame_of(moved).velocity, [[0.0, 3.0], [-3.0, 0.0]], atol=1e-12)


def test_the_covariance_turns_with_the_pose():
    given = tracked()
    given.state[:, POSE_COVARIANCE] = np.diag([4.0, 1.0, 9.0, 0.4, 0.1, 0.9]).reshape(-1)
    moved = transformed(given, "map", SHIFT, QUARTER_TURN)
    found = moved.state[0, POSE_COVARIANCE].reshape(6, 6)
    np.testing.assert_allclose(found, np.diag([1.0, 4.0, 9.0, 0.1, 0.4, 0.9]), atol=1e-12)


def test_there_and_back_is_where_it_was():
    rng = np.random.default_rng(0)
    given = tracked()
    turn = rng.normal(size=4)
    turn /= np.linalg.norm(turn)
    given.state[:, POSE] = rng.normal(size=(2, 7))
    given.state[:, POSE_COVARIANCE] = rng.normal(size=(2, 36))
    there = transformed(given, "map", SHIFT, turn)
    back_turn = turn * [-1, -1, -1, 1]
    x, y, z, w = back_turn
    rotation = np.array(
        [  # of the inverse turn, written out from the definition q v q*
            [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
        ]
    )
    back = transformed(there, "base_link", -rotation @ SHIFT, back_turn)
    np.testing.assert_allclose(back.state, given.state, atol=1e-12)


def test_tf2_moves_the_objects_of_a_running_node(stage):
    pytest.importorskip("tf2_ros", reason="tf2_ros is not installed")
    from geometry_msgs.msg import TransformStamped
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from tf2_msgs.msg import TFMessage

    from tests.ros.nodes import Talk

    stage.start("trajpred-node", "--ros-args", "-p", "model:=cv", "-p", "target_frame:=map")
    talk = Talk(stage)
    transform = TransformStamped()
    transform.header.frame_id, transform.child_frame_id = "map", "base_link"
    transform.transform.translation.x = 10.0
    transform.transform.rotation.w = 1.0
    static = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = stage.node.create_publisher(TFMessage, "/tf_static", static)
    publisher.publish(TFMessage(transforms=[transform]))
    frame = TrackFrame.build(10**9, ids_from_int([1]), [[1.0, 2.0]], frame_id="base_link")
    stage.spin_until(lambda: talk.ask(frame).frame_id == "map", what="an answer in the map frame")
    prediction = talk.ask(frame)
    np.testing.assert_allclose(prediction.xy, [[11.0, 2.0]])
