"""From the name of a message type to its class, where a log or a publisher says the name."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from rclpy.exceptions import NoTypeSupportImportedException

from trajpred.errors import InputError

_NAME = re.compile(r"([a-z][a-z0-9_]*)/msg/([A-Z][A-Za-z0-9]*)")
_INDEX = Path("share/ament_index/resource_index/rosidl_interfaces")


def message_type(name: str) -> Any:
    """The class of `package/msg/Name`.

    Importing a package runs it, so only packages that ROS knows to define interfaces are imported.
    Raises InputError for a name that is none, and where the type is not installed.
    """
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise InputError(f"{name!r} is no message type, such as std_msgs/msg/String")
    package, kind = parts.groups()
    # Wheels lie in the environment of Python, a ROS installation where its setup file says.
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    if not any((Path(prefix) / _INDEX / package).is_file() for prefix in prefixes if prefix):
        raise InputError(f"the message type {name} is not installed")
    try:
        found = getattr(import_module(f"{package}.msg"), kind)
        found.__class__.__import_type_support__()
    except (ImportError, AttributeError, TypeError, NoTypeSupportImportedException) as error:
        raise InputError(f"the message type {name} is not installed ({error})") from None
    return found
