"""DUT: pedestrians and vehicles mixing on a campus street, seen from a drone at 23.98 frames per second.

Each clip is a pair of CSV files, `CLIP_traj_ped_filtered.csv` (x_est, y_est, vx_est, vy_est) and
`CLIP_traj_veh_filtered.csv` (x_est, y_est, psi_est heading, vel_est speed along it), in metres,
radians and m/s, filtered by the data set's authors. Two clips have vehicles only. The vehicles'
heading and speed are rough: in turns they differ from the way driven by 20 degrees and a third.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.text import NUMBER, WORD, Columns, find_files, read_columns
from trajpred.errors import InputError
from trajpred.types import Float, Int, Label, Scene, ids_from_int

LABELS = {"ped": Label.PEDESTRIAN, "veh": Label.CAR}
FRAMES_PER_S = 23.98
VEHICLE_ID_0 = 1_000_000
"""Both files of a clip count their tracks from 0; vehicles get this much added."""

_COMMON = {"id": NUMBER, "frame": NUMBER, "label": WORD, "x_est": NUMBER, "y_est": NUMBER}
_COLUMNS = {
    "ped": _COMMON | {"vx_est": NUMBER, "vy_est": NUMBER},
    "veh": _COMMON | {"psi_est": NUMBER, "vel_est": NUMBER},
}


def read(path: Path) -> Iterator[Scene]:
    """One scene per clip, named like `intersection_01`; path is a folder or one of a clip's two files.

    Metres in the clip's own frame; velocity is known for all, yaw for vehicles, size for none. Raises
    InputError for a file that cannot be read, with its line.
    """
    files = find_files(path, "*_traj_*_filtered.csv")
    for clip in sorted({file.parent / _clip_name(file) for file in files}):
        halves = [(kind, clip.with_name(f"{clip.name}_traj_{kind}_filtered.csv")) for kind in LABELS]
        yield _join(clip.name, [_read_half(file, kind) for kind, file in halves if file.exists()])


def _clip_name(file: Path) -> str:
    name, found, _ = file.name.partition("_traj_")
    if not found:
        raise InputError(f"{file}: not named like CLIP_traj_ped_filtered.csv or CLIP_traj_veh_filtered.csv")
    return name


def _read_half(file: Path, kind: str) -> Scene:
    """The pedestrians or the vehicles of a clip."""
    table = read_columns(file, _COLUMNS[kind], ",", header=True)
    table.check_no_repeats("id", "frame")
    vehicle = kind == "veh"
    return Scene.build(
        file.name,
        _stamps(table.integers("frame")),
        ids_from_int(table.integers("id") + VEHICLE_ID_0 * vehicle),
        table.points("x_est", "y_est"),
        label=table.labels("label", LABELS),
        yaw=table["psi_est"] if vehicle else None,
        velocity=_along_heading(table) if vehicle else table.points("vx_est", "vy_est"),
    )


def _stamps(frame: Int) -> Int:
    stamp_ns: Int = np.rint(frame * (1e9 / FRAMES_PER_S)).astype(np.int64)
    return stamp_ns


def _along_heading(table: Columns) -> Float:
    heading, speed = table["psi_est"], table["vel_est"]
    return np.stack([speed * np.cos(heading), speed * np.sin(heading)], axis=1)


def _join(name: str, halves: list[Scene]) -> Scene:
    """One scene of the rows of both."""

    def rows(column: str) -> NDArray[Any]:
        return np.concatenate([getattr(half, column) for half in halves])

    return Scene.build(
        name,
        rows("stamp_ns"),
        rows("ids"),
        rows("xy"),
        label=rows("label"),
        yaw=rows("yaw"),
        yaw_valid=rows("yaw_valid"),
        velocity=rows("velocity"),
    )
