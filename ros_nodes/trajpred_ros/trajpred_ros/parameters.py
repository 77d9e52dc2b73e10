"""Parameters of nodes as data: declared from it, checked by it, and documented from it.

`python -m trajpred_ros.parameters docs/ros.md` brings the tables of that page up to date. Only `declare`
needs ROS.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rclpy.node import Node

Value = bool | int | float | str | list[float] | list[str]
When = Literal["live", "configure", "start"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a node.

    low and high are inclusive bounds of a number; choices are the only values of a text. when: a change
    takes effect at once ("live"), when the node is configured the next time ("configure"), or never
    ("start": it is read when the node starts).
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    when: When = "live"

    def fault(self, value: Any) -> str | None:
        """Why a value of the right type cannot be this parameter's; None if it can."""
        if self.choices and value not in self.choices:
            return f"{self.name} is one of {', '.join(self.choices)}, not {value!r}"
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                return f"{self.name} is not finite: {value}"
        if isinstance(self.default, (int, float)) and not isinstance(self.default, bool):
            low, high = self._bounds()
            if not low <= value <= high:
                return f"{self.name} is from {low:g} to {high:g}, not {value:g}"
        return None

    def _bounds(self) -> tuple[float, float]:
        return (
            -math.inf if self.low is None else self.low,
            math.inf if self.high is None else self.high,
        )


Check = Callable[[dict[str, Any]], "str | None"]


def declare(
    node: Node,
    parameters: Iterable[Parameter],
    *,
    configured: Callable[[], bool] = lambda: False,
    check: Check = lambda values: None,
) -> Mapping[str, Any]:
    """Declare the parameters on a node, and reject changes that cannot be, with the reason.

    Returns their values by name, which follow every change. configured: whether the node is configured
    now, so that "configure" parameters are fixed. check: given all values as they would be after a
    change, why they do not go together (None if they do). Raises InputError for an override that cannot be.
    """
    from rcl_interfaces.msg import (
        FloatingPointRange,
        IntegerRange,
        ParameterDescriptor,
        SetParametersResult,
    )
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    from trajpred.errors import InputError

    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Any] = {name: parameter.default for name, parameter in known.items()}
    for parameter in known.values():
        descriptor = ParameterDescriptor(
            description=parameter.description,
            additional_constraints=_constraints(parameter),
            read_only=parameter.when == "start",
        )
        low, high = parameter.low, parameter.high
        if isinstance(parameter.default, float) and (low is not None or high is not None):
            bounds = (-1.7e308 if low is None else float(low), 1.7e308 if high is None else float(high))
            descriptor.floating_point_range = [FloatingPointRange(from_value=bounds[0], to_value=bounds[1])]
        elif type(parameter.default) is int and (low is not None or high is not None):
            whole = (-(2**63) if low is None else int(low), 2**63 - 1 if high is None else int(high))
            descriptor.integer_range = [IntegerRange(from_value=whole[0], to_value=whole[1])]
        try:
            value = node.declare_parameter(parameter.name, parameter.default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise InputError(f"parameter {parameter.name}: {error}") from None
        fault = parameter.fault(value)
        if fault is not None:
            raise InputError(f"parameter {fault}")
        values[parameter.name] = value
    fault = check(values)
    if fault is not None:
        raise InputError(f"parameters: {fault}")

    def judge(changes: list[Any]) -> SetParametersResult:
        wanted = dict(values)
        for change in changes:
            parameter = known.get(change.name)
            if parameter is None:
                continue
            fault = parameter.fault(change.value)
            if fault is None and parameter.when == "configure" and configured():
                fault = f"{parameter.name} is read at configure: deactivate and clean up the node first"
            if fault is not None:
                return SetParametersResult(successful=False, reason=fault)
            wanted[change.name] = change.value
        fault = check(wanted)
        if fault is not None:
            return SetParametersResult(successful=False, reason=fault)
        values.update(wanted)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(judge)
    return values


def _constraints(parameter: Parameter) -> str:
    return f"one of: {', '.join(parameter.choices)}" if parameter.choices else ""


_EFFECT = {"live": "at once", "configure": "at the next configure", "start": "never: given at the start"}


def table(parameters: Iterable[Parameter]) -> str:
    """The parameters as a Markdown table."""
    lines = ["| parameter | type | default | values | a change takes effect | |", "|---|---|---|---|---|---|"]
    for p in parameters:
        shown = f"`{_shown(p.default)}`" if p.default not in ("", [], [""]) else "empty"
        lines.append(
            f"| `{p.name}` | {_kind(p)} | {shown} | {_values(p)} | {_EFFECT[p.when]} | {p.description} |"
        )
    return "\n".join(lines)


def text(parameters: Iterable[Parameter]) -> str:
    """The parameters for a terminal."""
    lines = []
    for p in parameters:
        values = f"; {_values(p)}" if _values(p) else ""
        lines.append(f"  {p.name}  ({_kind(p)}, default {_shown(p.default) or 'empty'}{values})")
        lines.append(f"      {p.description}")
    return "\n".join(lines)


def _kind(parameter: Parameter) -> str:
    """The ROS name of its type; an empty list is one of texts."""
    value = parameter.default
    if isinstance(value, list):
        return "double array" if value and isinstance(value[0], float) else "string array"
    return {bool: "bool", int: "integer", float: "double", str: "string"}[type(value)]


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(parameter.choices)
    parts = [
        f"{word} {bound:g}"
        for word, bound in (("from", parameter.low), ("to", parameter.high))
        if bound is not None
    ]
    return " ".join(parts)


def update(page: str) -> str:
    """A Markdown page with its tables made anew.

    Each stands between `<!-- parameters of NODE -->` and `<!-- end -->`.
    """

    def made_anew(place: re.Match[str]) -> str:
        module = import_module(f"trajpred_ros.{place[1]}")
        return f"<!-- parameters of {place[1]} -->\n{table(module.PARAMETERS)}\n<!-- end -->"

    return re.sub(r"<!-- parameters of (\w+) -->.*?<!-- end -->", made_anew, page, flags=re.DOTALL)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(update(Path(name).read_text("utf-8")), "utf-8")
