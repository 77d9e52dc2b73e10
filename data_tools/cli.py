"""The command `trajpred-data`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from trajpred import __version__
from trajpred.errors import InputError, TrajpredError

Scenario = Literal["cyclist_cut_in", "straight", "parking_street", "junction", "roundabout", "shared_space"]
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
        overwrite: Replace what is there.
    """
    from data_tools.convert import convert

    print(convert(source, src, dst, scene, topic, overwrite))


def simulate(
    out: Path,
    scenario: Scenario = "junction",
    seconds: float = 60.0,
    seed: int = 0,
    rate: float = 10.0,
    overwrite: bool = False,
) -> None:
    """Simulate traffic, and what a tracker sees of it, with the truth alongside.

    Args:
        out: Folder to write: tracks.mcap and tracks.parquet (what the tracker reports), truth.parquet,
            tracks.lanes.geojson.
        scenario: The family of places; the seed draws one of it, its traffic and a tracker, good or bad.
        seconds: How long.
        seed: The same seed gives the same files.
        rate: Reports per second.
        overwrite: Replace what is there.
    """
    from data_tools.simulate.record import record

    if seed < 0:
        raise InputError(f"seed {seed}: a seed is 0 or more")
    made = record(scenario, seconds, seed, rate)
    if not len(made.tracks):
        raise InputError(f"in {seconds:g} s of {scenario} the tracker sees nobody: take more --seconds")
    made.write(out, overwrite)
    print(f"{out}: {len(made.tracks)} observations in {seconds:g} s of {scenario}")
    print(f"next: trajpred evaluate --data {out} --report {out}.html")


COMMANDS: dict[str, Callable[..., None]] = {"convert": convert, "simulate": simulate}
FLAGS = {"overwrite": "Replace what is there."}
"""Parameters that are given without a value."""


def main(args: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 2 for what the user can mend."""
    parser = ArgumentParser(
        prog="trajpred-data", description="Recordings of road users.", version=__version__
    )
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
