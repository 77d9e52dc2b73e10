"""What has to be there before a node can start, and what to do where it is not."""

from __future__ import annotations

from importlib import import_module

from trajpred.errors import TrajpredError


class NoRosError(TrajpredError):
    """ROS 2, or the message package, cannot be imported."""


def require_ros() -> None:
    """Raises NoRosError, which says what is missing and the way out."""
    _require(
        "rclpy",
        "source your ROS 2 distribution (source /opt/ros/<distribution>/setup.bash), or, without one: "
        "pip install -e '.[ros]'",
    )
    _require(
        "autoware_perception_msgs.msg",
        "source the workspace that has it, or build it into this Python environment: trajpred-interfaces",
    )


def _require(module: str, way: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        raise NoRosError(f"{module.split('.')[0]} cannot be imported ({error}): {way}") from None
