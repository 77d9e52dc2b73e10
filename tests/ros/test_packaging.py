"""The package in a colcon workspace, and what a user is told where something is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from trajpred_ros.prediction_node import PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ros_nodes" / "trajpred_ros"


def test_colcon_builds_executables_launch_files_parameters_and_policy(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "trajpred_ros").symlink_to(PACKAGE)
    environment = {**os.environ, "AMENT_PREFIX_PATH": sys.prefix, "CMAKE_PREFIX_PATH": sys.prefix}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    built = subprocess.run(
        [Path(sys.executable).with_name("colcon"), "build", "--packages-select", "trajpred_ros"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    install = tmp_path / "install" / "trajpred_ros"
    programs = {path.name for path in (install / "lib" / "trajpred_ros").iterdir()}
    assert programs == {"prediction_node", "record_node", "replay_node", "yield_planner"}
    share = install / "share" / "trajpred_ros"
    for kind in ("launch", "config", "security", "viewers"):
        assert {p.name for p in (share / kind).iterdir()} == {p.name for p in (PACKAGE / kind).iterdir()}
    environment["PYTHONPATH"] = str(next(install.glob("lib/python*/site-packages")))
    told = subprocess.run(
        [sys.executable, install / "lib" / "trajpred_ros" / "prediction_node", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "prediction_time_horizon.vehicle" in told


def test_the_parameter_file_names_only_what_the_node_declares():
    def names(tree: dict, prefix: str = "") -> set[str]:
        found = set()
        for name, value in tree.items():
            found |= names(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
        return found

    given = yaml.safe_load((PACKAGE / "config" / "prediction.param.yaml").read_text())
    assert names(given["/**"]["ros__parameters"]) <= {p.name for p in PARAMETERS}


@pytest.mark.parametrize(
    ("missing", "way"),
    [("rclpy", "pip install 'trajpred[ros]'"), ("autoware_perception_msgs.msg", "trajpred-interfaces")],
)
def test_what_is_missing_is_named_with_the_way_out(missing, way):
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['trajpred-node']\n"
        "from trajpred_ros.main import prediction_node; sys.exit(prediction_node())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {missing.split('.')[0]} cannot be imported")
    assert way in line


def test_the_message_package_is_not_built_twice():
    told = subprocess.run(
        [sys.executable, "-m", "trajpred_ros.interfaces"], capture_output=True, text=True, check=True
    ).stdout
    assert re.fullmatch(r"autoware_perception_msgs: is there already\n", told)
