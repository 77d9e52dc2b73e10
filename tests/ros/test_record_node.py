"""The record node keeps what is published, as it was published."""

from __future__ import annotations

import time

from autoware_perception_msgs.msg import PredictedObjects, TrackedObjects
from geometry_msgs.msg import TwistStamped
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader

from trajpred.bags import typestore
from trajpred.messages import encode_tracked
from trajpred.types import TrackFrame, ids_from_int


def test_every_message_of_every_topic_is_kept_as_bytes(stage, tmp_path):
    out = tmp_path / "kept.mcap"
    node = stage.start("trajpred-record-node", "--ros-args", "-p", f"out:={out}", "-p", "topics:=[/a, /b]")
    tracked = stage.node.create_publisher(TrackedObjects, "/a", 100)
    speeds = stage.node.create_publisher(TwistStamped, "/b", 100)
    stage.node.create_publisher(PredictedObjects, "/c", 100)
    stage.spin_until(
        lambda: tracked.get_subscription_count() and speeds.get_subscription_count(), what="the recorder"
    )
    sent = {"/a": [], "/b": []}
    for tick in range(20):
        frame = TrackFrame.build(tick * 10**8, ids_from_int([1, 2]), [[tick, 0.0], [0.0, tick]])
        speed = TwistStamped()
        speed.twist.linear.x = float(tick)
        sent["/a"].append(encode_tracked(frame))
        sent["/b"].append(bytes(serialize_message(speed)))
        tracked.publish(sent["/a"][-1])
        speeds.publish(sent["/b"][-1])
    assert tracked.wait_for_all_acked()
    assert speeds.wait_for_all_acked()
    time.sleep(0.5)  # they have arrived; writing them takes a moment
    assert node.stop() == 0
    assert "40 messages" in node.said
    kept = {"/a": [], "/b": []}
    with AnyReader([out], default_typestore=typestore()) as reader:
        for connection, _, raw in reader.messages():
            kept[connection.topic].append(bytes(raw))
    assert kept == sent


def test_a_log_that_exists_is_not_overwritten_unasked(stage, tmp_path):
    out = tmp_path / "kept.mcap"
    out.write_bytes(b"something")
    node = stage.start("trajpred-record-node", "--ros-args", "-p", f"out:={out}")
    assert node.wait(30) == 2
    assert "exists already" in node.said
    assert out.read_bytes() == b"something"
