"""VRU Trajectory Dataset: cyclists (lidar, 12.5 Hz) and pedestrians (cameras, 50 Hz) at a crossing.

One CSV per road user, with the header `,timestamp,x,y`; seconds from the clip's own start and
metres in the crossing's frame. A folder `cyclists` or `pedestrians` on the path says who it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.text import NUMBER, find_files, read_columns
from trajpred.errors import InputError
from trajpred.types import Label, Scene, ids_from_int

CROSSING = "vru"
"""The coordinate frame of all clips: a place that a model can learn."""

LABELS = {"cyclists": Label.BICYCLE, "pedestrians": Label.PEDESTRIAN}

_COLUMNS = {"timestamp": NUMBER, "x": NUMBER, "y": NUMBER}


def read(path: Path) -> Iterator[Scene]:
    """One scene with one track per clip, named like `cyclists/moving/1.csv`; path is a clip or a folder.

    Rows are sorted by their stamp, which is rounded to nanoseconds; of rows with the same stamp the
    first is kept (two clips have no other stamp than 0 and shrink to a single row). No yaw,
    velocity or size. Raises InputError for a clip that cannot be read, with its line, and for one
    that is in neither folder.
    """
    for file in find_files(path, "*.csv" if _kind(path) else "*/*/*.csv"):
        kind = _kind(file)
        if kind is None:
            raise InputError(f"{file}: a clip lies in a folder named {' or '.join(LABELS)}")
        table = read_columns(file, _COLUMNS, ",", header=True)
        far = np.flatnonzero(np.abs(table["timestamp"]) > 4e9)
        if far.size:
            raise table.error(far[0], f"timestamp is not in seconds: {table['timestamp'][far[0]]:g}")
        stamp_ns = np.rint(table["timestamp"] * 1e9).astype(np.int64)
        stamp_ns, first = np.unique(stamp_ns, return_index=True)
        parts = file.resolve().parts
        yield Scene.build(
            "/".join(parts[len(parts) - 1 - parts[::-1].index(kind) :]),
            stamp_ns,
            ids_from_int(np.zeros(len(first))),
            table.points("x", "y")[first],
            label=LABELS[kind],
            frame_id=CROSSING,
        )


def _kind(path: Path) -> str | None:
    """Which of the folders that say who was recorded the path lies in (the innermost), if any."""
    return next((part for part in reversed(path.resolve().parts) if part in LABELS), None)
