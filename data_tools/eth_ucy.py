"""ETH and UCY in the community's standard files: pedestrians seen from above, annotated at 2.5 Hz.

Tab-separated, no header: frame, track, x, y in metres; 10 frames are 0.4 s. The `eth` scene
(biwi_eth) was exported with a wrong frame step, so that people in it seem faster than they were;
it is read as it is, since published figures are made on these very files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_tools.text import NUMBER, find_files, read_columns
from trajpred.types import Label, Scene, ids_from_int

FRAME_NS = 40_000_000

_COLUMNS = {"frame": NUMBER, "track": NUMBER, "x": NUMBER, "y": NUMBER}


def read(path: Path) -> Iterator[Scene]:
    """One scene per file, named after it; path is a file or a folder (such as eth/test).

    Metres in each recording's own frame; no yaw, velocity or size. Raises InputError for a file
    that cannot be read, with its line.
    """
    for file in find_files(path, "*.txt"):
        table = read_columns(file, _COLUMNS)
        table.check_no_repeats("track", "frame")
        yield Scene.build(
            file.stem,
            table.integers("frame") * FRAME_NS,
            ids_from_int(table.integers("track")),
            table.points("x", "y"),
            label=Label.PEDESTRIAN,
        )
