"""Parameters as data: bounds, texts, tables; the documentation is what the nodes declare."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from trajpred.errors import InputError
from trajpred_ros.parameters import Parameter, declare, table

ROOT = Path(__file__).resolve().parents[2]
NODES = ("prediction_node", "replay_node", "planner_node")

SPEED = Parameter("speed", 5.0, "How fast, m/s.", low=0.0, high=10.0)
COUNT = Parameter("count", 3, "How many.", low=1)
KIND = Parameter("kind", "a", "Which one.", choices=("a", "b"), when="configure")
START = Parameter("begin", True, "Whether to begin.", when="start")


@pytest.fixture
def context():
    made = rclpy.Context()
    rclpy.init(context=made)
    yield made
    rclpy.shutdown(context=made)


def make(context, *overrides: tuple[str, object], **kwargs) -> tuple[Node, dict]:
    given = [RosParameter(name, value=value) for name, value in overrides]
    node = Node("n", context=context, parameter_overrides=given, start_parameter_services=False)
    return node, declare(node, (SPEED, COUNT, KIND, START), **kwargs)


def test_values_follow_changes(context):
    node, values = make(context, ("speed", 2.0))
    assert dict(values) == {"speed": 2.0, "count": 3, "kind": "a", "begin": True}
    (result,) = node.set_parameters([RosParameter("speed", value=7.5)])
    assert result.successful
    assert values["speed"] == 7.5


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("speed", 10.5, "speed"),
        ("speed", float("nan"), "speed"),
        ("count", 0, "count"),
        ("kind", "c", "kind is one of a, b, not 'c'"),
        ("begin", False, "read-only"),
        ("speed", "fast", "DOUBLE"),
    ],
)
def test_what_cannot_be_is_rejected_with_the_reason(context, name, value, reason):
    node, values = make(context)
    before = dict(values)
    (result,) = node.set_parameters([RosParameter(name, value=value)])
    assert not result.successful
    assert reason in result.reason
    assert dict(values) == before == {p: node.get_parameter(p).value for p in before}


@pytest.mark.parametrize(("name", "value"), [("speed", -1.0), ("count", 0), ("kind", "c"), ("speed", "x")])
def test_an_override_that_cannot_be_is_an_input_error_that_names_it(context, name, value):
    with pytest.raises(InputError, match=name):
        make(context, (name, value))


def test_what_is_read_at_configure_is_fixed_while_configured(context):
    configured = True
    node, _ = make(context, configured=lambda: configured)
    (result,) = node.set_parameters([RosParameter("kind", value="b")])
    assert not result.successful
    assert "deactivate" in result.reason
    configured = False
    (result,) = node.set_parameters([RosParameter("kind", value="b")])
    assert result.successful


def test_values_that_do_not_go_together_are_rejected(context):
    def check(values):
        return "too many for the speed" if values["count"] > values["speed"] else None

    node, values = make(context, check=check)
    (result,) = node.set_parameters([RosParameter("count", value=6)])
    assert (result.successful, result.reason) == (False, "too many for the speed")
    result = node.set_parameters_atomically(
        [RosParameter("count", value=6), RosParameter("speed", value=8.0)]
    )
    assert result.successful
    assert (values["count"], values["speed"]) == (6, 8.0)


def test_the_descriptor_carries_type_range_and_description(context):
    node, _ = make(context)
    descriptor = node.describe_parameter("speed")
    assert descriptor.description == "How fast, m/s."
    (bounds,) = descriptor.floating_point_range
    assert (bounds.from_value, bounds.to_value) == (0.0, 10.0)
    assert node.describe_parameter("kind").additional_constraints == "one of: a, b"
    assert node.describe_parameter("begin").read_only


def test_the_table_says_type_default_values_and_effect():
    lines = table((SPEED, KIND)).splitlines()
    assert lines[2] == "| `speed` | double | `5.0` | from 0 to 10 | at once | How fast, m/s. |"
    assert lines[3] == "| `kind` | string | `a` | a, b | at the next configure | Which one. |"


@pytest.mark.parametrize("module", NODES)
def test_the_documented_parameters_are_those_declared(module):
    page = (ROOT / "docs/ros.md").read_text()
    (shown,) = re.findall(rf"<!-- parameters of {module} -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    declared = table(import_module(f"trajpred_ros.{module}").PARAMETERS)
    assert shown == declared, "bring it up to date: python -m trajpred_ros.parameters docs/ros.md"
