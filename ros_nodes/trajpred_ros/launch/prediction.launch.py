"""The prediction node on Autoware's topics."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Arguments: model, input, output, params_file, use_sim_time."""
    default_parameters = PathJoinSubstitution(
        [FindPackageShare("trajpred_ros"), "config", "prediction.param.yaml"]
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("model", default_value="default"),
            DeclareLaunchArgument("input", default_value="/perception/object_recognition/tracking/objects"),
            DeclareLaunchArgument("output", default_value="/perception/object_recognition/objects"),
            DeclareLaunchArgument("params_file", default_value=default_parameters),
            DeclareLaunchArgument("use_sim_time", default_value="false"),
            LifecycleNode(
                package="trajpred_ros",
                executable="prediction_node",
                name="prediction_node",
                namespace="",
                parameters=[
                    LaunchConfiguration("params_file"),
                    {
                        "model": LaunchConfiguration("model"),
                        "use_sim_time": LaunchConfiguration("use_sim_time"),
                    },
                ],
                remappings=[
                    ("~/input/objects", LaunchConfiguration("input")),
                    ("~/output/objects", LaunchConfiguration("output")),
                ],
                output="screen",
            ),
        ]
    )
