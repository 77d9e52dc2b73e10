"""The prediction node as one would write it first: message objects in, message objects out, the same model.

`benchmarks/node.py` measures trajpred's node against it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from autoware_perception_msgs.msg import (
    PredictedObject,
    PredictedObjects,
    PredictedPath,
    TrackedObjects,
)
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Pose
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

from trajpred.geometry import path_heading, quaternion_from_yaw, yaw_from_quaternion
from trajpred.predictor import Predictor
from trajpred.types import Label, Prediction, TrackFrame, ids_from_bytes
from trajpred_ros.diagnostics import Stages


class PlainNode(Node):
    """TrackedObjects in, PredictedObjects out, on the model's own time grid (uniform steps)."""

    def __init__(self, predictor: Predictor, measured: Callable[[Stages], None]) -> None:
        super().__init__("plain_node")
        self._predictor, self._measured = predictor, measured
        newest = QoSProfile(depth=1)
        self._publisher = self.create_publisher(PredictedObjects, "~/output/objects", newest)
        # Raw, so that the deserialization that rclpy would do before the callback is measured with it.
        self.create_subscription(TrackedObjects, "~/input/objects", self._on_objects, newest, raw=True)

    def _on_objects(self, raw: bytes) -> None:
        begun = time.perf_counter_ns()
        message = deserialize_message(raw, TrackedObjects)
        frame = to_frame(message)
        decoded = time.perf_counter_ns()
        prediction = self._predictor.step(frame)
        stepped = time.perf_counter_ns()
        answer = to_message(message, prediction)
        encoded = time.perf_counter_ns()
        self._publisher.publish(answer)
        marks = (begun, decoded, stepped, encoded, time.perf_counter_ns())
        self._measured(Stages(*((b - a) / 1e6 for a, b in pairwise(marks))))


def to_frame(message: TrackedObjects) -> TrackFrame:
    """The message's objects as arrays, one by one."""
    ids, label, xy, yaw, velocity, size = [], [], [], [], [], []
    for item in message.objects:
        pose = item.kinematics.pose_with_covariance.pose
        twist = item.kinematics.twist_with_covariance.twist.linear
        q = pose.orientation
        heading = float(yaw_from_quaternion([q.x, q.y, q.z, q.w]))
        cos, sin = np.cos(heading), np.sin(heading)
        best = max(item.classification, key=lambda c: c.probability)
        ids.append(item.object_id.uuid)
        label.append(best.label)
        xy.append((pose.position.x, pose.position.y))
        yaw.append(heading)
        velocity.append((cos * twist.x - sin * twist.y, sin * twist.x + cos * twist.y))
        size.append((item.shape.dimensions.x, item.shape.dimensions.y, item.shape.dimensions.z))
    stamp = message.header.stamp
    return TrackFrame.build(
        stamp.sec * 10**9 + stamp.nanosec,
        ids_from_bytes(np.array(ids)),
        xy,
        label=[Label(value) for value in label],
        yaw=yaw,
        velocity=velocity,
        size=size,
        frame_id=message.header.frame_id,
    )


def to_message(message: TrackedObjects, prediction: Prediction) -> PredictedObjects:
    """Every pose of every path as a message object."""
    heading = path_heading(prediction.heading, prediction.xy, prediction.paths)
    orientation = quaternion_from_yaw(heading)
    step_ns = round(float(prediction.offset_s[0]) * 1e9)
    answer = PredictedObjects(header=message.header)
    for row, item in enumerate(message.objects):
        found = PredictedObject(
            object_id=item.object_id,
            existence_probability=item.existence_probability,
            classification=item.classification,
            shape=item.shape,
        )
        found.kinematics.initial_pose_with_covariance = item.kinematics.pose_with_covariance
        found.kinematics.initial_twist_with_covariance = item.kinematics.twist_with_covariance
        found.kinematics.initial_acceleration_with_covariance = item.kinematics.acceleration_with_covariance
        z = item.kinematics.pose_with_covariance.pose.position.z
        for mode in np.flatnonzero(prediction.mode_valid[row]):
            path = PredictedPath(confidence=float(prediction.probability[row, mode]))
            path.time_step = Duration(sec=step_ns // 10**9, nanosec=step_ns % 10**9)
            path.path.append(item.kinematics.pose_with_covariance.pose)
            for (x, y), turned in zip(prediction.paths[row, mode], orientation[row, mode], strict=True):
                pose = Pose()
                pose.position.x, pose.position.y, pose.position.z = float(x), float(y), z
                pose.orientation.x, pose.orientation.y = float(turned[0]), float(turned[1])
                pose.orientation.z, pose.orientation.w = float(turned[2]), float(turned[3])
                path.path.append(pose)
            found.kinematics.predicted_paths.append(path)
        answer.objects.append(found)
    return answer
