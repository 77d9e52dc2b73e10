"""The ament_python package, for colcon. Without a ROS workspace, pip's trajpred brings the same nodes."""

from pathlib import Path

from setuptools import setup

NAME = "trajpred_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", [str(path) for path in Path("launch").glob("*.launch.py")]),
        (f"share/{NAME}/config", [str(path) for path in Path("config").iterdir()]),
        (f"share/{NAME}/viewers", [str(path) for path in Path("viewers").iterdir()]),
        (f"share/{NAME}/security", [str(path) for path in Path("security").glob("*.xml")]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="trajpred",
    maintainer_email="trajpred@users.noreply.github.com",
    description="Several weighted future paths for every road user, from a streaming LSTM.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "prediction_node = trajpred_ros.main:prediction_node",
            "replay_node = trajpred_ros.main:replay_node",
            "record_node = trajpred_ros.main:record_node",
            "yield_planner = trajpred_ros.main:yield_planner",
        ]
    },
)
