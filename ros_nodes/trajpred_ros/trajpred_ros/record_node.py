"""Records topics into a log (MCAP), as `ros2 bag record` does, where that is not installed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile

from trajpred.bags import LogWriter
from trajpred.errors import InputError
from trajpred_ros.message_types import message_type
from trajpred_ros.parameters import Parameter, declare

PARAMETERS = (
    Parameter("out", "", "The log to write: .mcap, .db3, or a folder.", when="start"),
    Parameter(
        "topics",
        ["/perception/object_recognition/objects"],
        "Which topics; each is recorded from when someone publishes it.",
        when="start",
    ),
    Parameter("overwrite", False, "Replace the log if it exists.", when="start"),
)


class RecordNode(Node):
    """Writes every message of its topics, as bytes, stamped with this node's clock; whole when it ends."""

    def __init__(self, **options: Any) -> None:
        super().__init__("record_node", **options)
        values = declare(self, PARAMETERS)
        if not values["out"]:
            raise InputError("parameter out: where to? e.g. --ros-args -p out:=predictions.mcap")
        self._wanted = {str(topic) for topic in values["topics"]}
        self._count = 0
        self._log = LogWriter(Path(values["out"]), overwrite=values["overwrite"])
        self._log.__enter__()
        self._look = self.create_timer(0.1, self._find_topics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _find_topics(self) -> None:
        """Subscribe to the topics that have appeared."""
        for topic, types in self.get_topic_names_and_types():
            if topic in self._wanted and self.count_publishers(topic):
                self._wanted.discard(topic)
                try:
                    kind = message_type(types[0])
                except InputError as error:
                    self.get_logger().error(f"not recorded: {topic}: {error}")
                    continue
                self._log.add_topic(topic, types[0])
                keep = partial(self._keep, topic)
                self.create_subscription(kind, topic, keep, QoSProfile(depth=1000), raw=True)
                self.get_logger().info(f"recording {topic}")
        if not self._wanted:
            self._look.cancel()

    def _keep(self, topic: str, raw: bytes) -> None:
        self._log.write(topic, self.get_clock().now().nanoseconds, raw)
        self._count += 1

    def destroy_node(self) -> None:
        """Finish the log."""
        if hasattr(self, "_log"):
            self._log.__exit__(None, None, None)
            self.get_logger().info(f"{self._log.path}: {self._count} messages")
        super().destroy_node()
