"""Talking to the prediction node from a test."""

from __future__ import annotations

from typing import Any

from autoware_perception_msgs.msg import PredictedObjects, TrackedObjects
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from tests.ros.conftest import Stage
from trajpred.messages import decode_predicted, encode_tracked
from trajpred.types import Prediction, TrackFrame

INPUT = "/perception/object_recognition/tracking/objects"
OUTPUT = "/perception/object_recognition/objects"


class Talk:
    """Publishes tracked objects and keeps every answer, as bytes."""

    def __init__(self, stage: Stage):
        self.stage = stage
        self.publisher = stage.node.create_publisher(TrackedObjects, INPUT, QoSProfile(depth=100))
        self.answers: list[bytes] = []
        stage.node.create_subscription(
            PredictedObjects, OUTPUT, self.answers.append, QoSProfile(depth=10000), raw=True
        )
        stage.spin_until(
            lambda: self.publisher.get_subscription_count() and stage.node.count_publishers(OUTPUT),
            what="the node's topics",
        )
        # That the node knows this subscription, too, cannot be asked.
        stage.spin_for(0.5)

    def ask(self, frame: TrackFrame | bytes) -> Prediction:
        """The answer to one message."""
        before = len(self.answers)
        self.publisher.publish(frame if isinstance(frame, bytes) else encode_tracked(frame))
        self.stage.spin_until(lambda: len(self.answers) > before, what="an answer")
        return decode_predicted(self.answers[-1])[0]


def call(stage: Stage, kind: Any, name: str, request: Any) -> Any:
    """The response of a service."""
    client = stage.node.create_client(kind, name)
    stage.spin_until(client.service_is_ready, what=name)
    future = client.call_async(request)
    stage.spin_until(future.done, what=f"a response of {name}")
    stage.node.destroy_client(client)
    return future.result()


def set_parameter(stage: Stage, node: str, name: str, value: Any) -> Any:
    """The result of changing one parameter of a running node: successful, reason."""
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return call(stage, SetParameters, f"/{node}/set_parameters", request).results[0]
