"""Stanford Drone Dataset as the standard pedestrian prediction split: tracks of 20 steps at 2.5 Hz.

White space, no header: frame, track, x, y in metres; 12 frames are 0.4 s. Published errors are in
pixels: metres divided by the `Ratio` of `H_SDD.txt` (version A), which lies beside the split folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.sdd import frame_to_ns
from data_tools.text import NUMBER, WORD, find_files, read_columns
from trajpred.errors import InputError
from trajpred.types import Label, Scene, ids_from_int

_COLUMNS = {"frame": NUMBER, "track": NUMBER, "x": NUMBER, "y": NUMBER}


def read(path: Path) -> Iterator[Scene]:
    """One scene per file, named after it (`gates_2`); path is a file or a folder (train or test).

    Metres along the image axes (x right, y down); stamps at a nominal 30 frames per second, so that
    12 frames are 0.4 s exactly; all are pedestrians. m_per_px is set; no yaw, velocity or size. Raises
    InputError for a file that cannot be read, with its line, and for a video without a ratio.
    """
    for file in find_files(path, "*.txt"):
        table = read_columns(file, _COLUMNS)
        table.check_no_repeats("track", "frame")
        yield Scene.build(
            file.stem,
            frame_to_ns(table.integers("frame")),
            ids_from_int(table.integers("track")),
            table.points("x", "y"),
            label=Label.PEDESTRIAN,
            m_per_px=_m_per_px(file.resolve().parent.parent / "H_SDD.txt", file.stem),
        )


def _m_per_px(path: Path, video: str) -> float:
    table = read_columns(path, {"File": WORD, "Version": WORD, "Ratio": NUMBER}, "\t", header=True)
    rows = np.flatnonzero((table["File"] == f"{video}.jpg") & (table["Version"] == "A"))
    if rows.size != 1:
        raise InputError(f"{path}: not exactly one ratio of version A for {video}.jpg")
    return float(table["Ratio"][rows[0]])
