"""The command `trajpred-data`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from trajpred.errors import TrajpredError

Source = Literal["eth_ucy", "vru", "sdd", "sdd_trajnet", "kitti", "womd", "dut", "rosbag2", "table"]


def convert(
    source: Source,
    src: Path,
    dst: Path,
    scene: str | None = None,
    topic: str | None = None,
    overwrite: bool = False,
) -> None:
    """Convert recordings of one format to Parquet tables or to a rosbag2 log.

    Args:
        source: What the recordings are.
        src: A file or folder of that source.
        dst: Ending in .parquet: a table (for several scenes a folder of tables). Ending in .mcap or
            .db3: a log in a single file. Anything else: a rosbag2 folder.
        scene: Only the scene of this name, such as 0004 (kitti) or gates/video4 (sdd).
        topic: Which topic of a log that holds several of autoware_perception_msgs/msg/TrackedObjects.
        overwrite: Replace what is at dst.
    """
    from data_tools.convert import convert

    print(convert(source, src, dst, scene, topic, overwrite))


COMMANDS = {"convert": convert}
FLAGS = {"overwrite": "Replace what is at dst."}
"""Parameters that are given without a value."""


def main(args: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 2 for what the user can mend."""
    parser = ArgumentParser(prog="trajpred-data", description="Recordings of road users.")
    subcommands = parser.add_subcommands(dest="command")
    for name, function in COMMANDS.items():
        summary = (function.__doc__ or "").partition("\n")[0]
        command = ArgumentParser(description=summary)
        command.add_function_arguments(function, as_group=False, as_positional=True, skip=set(FLAGS))
        for flag, meaning in FLAGS.items():
            command.add_argument(f"--{flag}", action="store_true", help=meaning)
        subcommands.add_subcommand(name, command, help=summary)
    chosen = parser.parse_args(args)
    try:
        COMMANDS[chosen.command](**chosen[chosen.command].as_dict())
    except TrajpredError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0
