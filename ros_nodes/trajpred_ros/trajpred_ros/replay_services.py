"""The services of rosbag2's player, in its own types where those are installed, else as std_srvs/Trigger.

A Trigger carries no value: `set_rate` then takes the node's parameter `rate`, and `seek` its parameter
`seek_to`. The message it answers with is the rate for `get_rate`, and "paused" or "playing" for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from std_srvs.srv import Trigger

from trajpred.config import NS_PER_S

if TYPE_CHECKING:
    from trajpred_ros.replay_node import ReplayNode

NAMES = ("pause", "resume", "toggle_paused", "is_paused", "set_rate", "get_rate", "seek", "play_next")


def create_services(node: ReplayNode) -> None:
    """Offer all of them under the node's name."""
    try:
        typed = import_module("rosbag2_interfaces.srv")
    except ImportError:
        for name in NAMES:
            node.create_service(Trigger, f"~/{name}", partial(_trigger, node, name))
    else:
        for name in NAMES:
            kind = getattr(typed, name.title().replace("_", ""))
            node.create_service(kind, f"~/{name}", partial(_typed, node, name))


def _do(node: ReplayNode, name: str) -> bool:
    """What needs no value; whether it could be done."""
    if name == "play_next":
        return node.play_next()
    if name == "pause" or (name == "toggle_paused" and not node.player.paused):
        node.pause()
    elif name in ("resume", "toggle_paused"):
        node.resume()
    return True


def _trigger(node: ReplayNode, name: str, request: Any, response: Any) -> Any:
    values: dict[str, Callable[[], bool]] = {
        "set_rate": lambda: node.set_rate(node.get_parameter("rate").value),
        "seek": lambda: node.seek_to(node.get_parameter("seek_to").value),
    }
    response.success = values[name]() if name in values else _do(node, name)
    state = "paused" if node.player.paused else "playing"
    response.message = f"{node.player.rate:g}" if name == "get_rate" else state
    return response


def _typed(node: ReplayNode, name: str, request: Any, response: Any) -> Any:
    if name == "is_paused":
        response.paused = node.player.paused
    elif name == "get_rate":
        response.rate = float(node.player.rate)
    elif name == "set_rate":
        response.success = node.set_rate(request.rate)
    elif name == "seek":
        response.success = node.seek(request.time.sec * NS_PER_S + request.time.nanosec)
    elif name == "play_next":
        # Newer requests may ask for several at once.
        wanted = getattr(request, "num_messages", 1)
        response.success = all(node.play_next() for _ in range(wanted))
    else:
        _do(node, name)
    return response
