"""Real nodes in processes of their own, over real DDS, each test in a domain of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install -e '.[ros]', or source a distribution")

import rclpy
from domain_coordinator import domain_id
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node


class Process:
    """A node in a process of its own; what it says is kept."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path):
        self.name, self.log = name, log
        with log.open("w") as out:
            self._process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        self.pid = self._process.pid

    @property
    def said(self) -> str:
        return self.log.read_text()

    def stop(self, seconds: float = 15.0) -> int:
        """Interrupt it as Ctrl-C does; its exit code."""
        if self._process.poll() is None:
            self.send(signal.SIGINT)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGABRT)  # faulthandler says where it was
            self._process.wait()
            raise AssertionError(f"{self.name} did not stop:\n{self.said}") from None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Wait until it ends by itself; its exit code."""
        return self._process.wait(seconds)

    def alive(self) -> bool:
        return self._process.poll() is None


class Stage:
    """One DDS domain: start nodes as processes, and listen and talk to them from a node of the test's."""

    def __init__(self, domain: int, folder: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(folder / "ros_log"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONFAULTHANDLER": "1",
        }
        self.processes: list[Process] = []
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node: Node = rclpy.create_node("test", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def start(self, script: str, *arguments: str) -> Process:
        """Run a console script, or a module given as `-m package.module`, with --ros-args and the like."""
        binary = Path(sys.executable).parent
        command = (
            [sys.executable, *script.split()] if script.startswith("-m ") else [str(binary / script)]
        ) + list(arguments)
        name = f"{len(self.processes)}_{script.split('.')[-1].replace(' ', '_')}"
        process = Process(name, command, self.environment, self.folder / f"{name}.log")
        self.processes.append(process)
        return process

    def spin_until(self, done: Callable[[], object], seconds: float = 30.0, what: str = "") -> None:
        """Spin the test's node until `done()` is true; fails with what the processes said."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                told = "\n".join(f"--- {p.name} (alive: {p.alive()})\n{p.said}" for p in self.processes)
                raise AssertionError(f"nothing after {seconds:g} s: {what}\n{told}")
            self.executor.spin_once(timeout_sec=0.05)

    def spin_for(self, seconds: float) -> None:
        """Spin the test's node for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        for process in self.processes:
            if process.alive():
                process.send(signal.SIGINT)
        for process in self.processes:
            process.stop()
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with domain_id() as domain:
        made = Stage(domain, tmp_path)
        try:
            yield made
        finally:
            made.close()
