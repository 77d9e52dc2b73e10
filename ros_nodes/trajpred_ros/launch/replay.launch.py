"""A recorded log on its topics, with /clock."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Arguments: log, rate, loop."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("log"),
            DeclareLaunchArgument("rate", default_value="1.0"),
            DeclareLaunchArgument("loop", default_value="false"),
            Node(
                package="trajpred_ros",
                executable="replay_node",
                name="replay_node",
                parameters=[
                    {
                        "log": LaunchConfiguration("log"),
                        "rate": ParameterValue(LaunchConfiguration("rate"), value_type=float),
                        "loop": ParameterValue(LaunchConfiguration("loop"), value_type=bool),
                    }
                ],
                output="screen",
            ),
        ]
    )
