"""A type is found by its name, and nothing else is."""

from __future__ import annotations

import sys

import pytest
from autoware_perception_msgs.msg import TrackedObjects

from trajpred.errors import InputError
from trajpred.messages import TRACKED
from trajpred_ros.message_types import message_type


def test_a_type_is_found_by_its_name():
    assert message_type(TRACKED) is TrackedObjects
    for name in ("std_msgs/msg/Absent", "absent/msg/X"):
        with pytest.raises(InputError, match="is not installed"):
            message_type(name)


@pytest.mark.parametrize("name", ["", "std_msgs", "std_msgs/String", "std_msgs/msg/A/b", "os.path/msg/X"])
def test_a_name_that_is_none(name):
    with pytest.raises(InputError, match="is no message type"):
        message_type(name)


def test_a_package_that_defines_no_messages_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "marked").mkdir()
    (tmp_path / "marked" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="is not installed"):
        message_type("marked/msg/X")
    assert "marked" not in sys.modules
