"""The yield planner on Autoware's topic of predicted objects."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Arguments: input, use_sim_time."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("input", default_value="/perception/object_recognition/objects"),
            DeclareLaunchArgument("use_sim_time", default_value="false"),
            Node(
                package="trajpred_ros",
                executable="yield_planner",
                name="yield_planner",
                parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
                remappings=[("~/input/objects", LaunchConfiguration("input"))],
                output="screen",
            ),
        ]
    )
