"""Stanford Drone Dataset, the raw annotations: boxes round everybody seen from a drone.

`SCENE/VIDEO/annotations.txt`, white space, no header: track, x1, y1, x2, y2 in pixels, frame, lost,
occluded, generated, "label"; metres by the scale of `estimated_scales.yaml`, which is an
estimate: quote errors in pixels too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from data_tools.text import NUMBER, WORD, find_files, read_columns
from trajpred.errors import InputError
from trajpred.types import Int, Label, Scene, ids_from_int

LABELS = {
    "Pedestrian": Label.PEDESTRIAN,
    "Biker": Label.BICYCLE,
    # A skater moves like neither of them: a class of its own, for want of a better one the unknown.
    "Skater": Label.UNKNOWN,
    "Cart": Label.CAR,
    "Car": Label.CAR,
    "Bus": Label.BUS,
}

_COLUMNS = {
    "track": NUMBER,
    "x1": NUMBER,
    "y1": NUMBER,
    "x2": NUMBER,
    "y2": NUMBER,
    "frame": NUMBER,
    "lost": NUMBER,
    "occluded": NUMBER,
    "generated": NUMBER,
    "label": WORD,
}


def frame_to_ns(frame: Int) -> Int:
    """(R,) frame numbers -> (R,) ns at the nominal 30 frames per second, so that 12 frames are 0.4 s."""
    return (frame * 100_000_000 + 1) // 3


def read(path: Path) -> Iterator[Scene]:
    """One scene per video, named like `gates/video4`; path is a file, or a folder at any level above.

    Box centres in metres along the image axes (x right, y down), rows with lost = 1 left out. Stamps
    are at a nominal 30 frames per second (the videos have 29.97), so that the benchmarks' step of
    12 frames is 0.4 s exactly. m_per_px is set; no yaw, velocity or size (a box along the image axes
    says little of it). Raises InputError for a file that cannot be read, with its line, and for a
    video without a scale.
    """
    for file in find_files(path, "annotations.txt"):
        video = file.resolve().parent
        scene = video.parent
        scale = _scale(scene.parent / "estimated_scales.yaml", scene.name, video.name)
        table = read_columns(file, _COLUMNS)
        table.check_no_repeats("track", "frame")
        table = table.take(table["lost"] != 1)
        yield Scene.build(
            f"{scene.name}/{video.name}",
            frame_to_ns(table.integers("frame")),
            ids_from_int(table.integers("track")),
            (table.points("x1", "y1") + table.points("x2", "y2")) / 2 * scale,
            label=table.labels("label", LABELS),
            m_per_px=scale,
        )


class _Plain(yaml.SafeLoader):
    """Without aliases, which can be merged until they fill the memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def _scale(path: Path, scene: str, video: str) -> float:
    """Metres per pixel of one video."""
    try:
        scales: Any = yaml.load(path.read_text("utf-8"), _Plain)  # noqa: S506 - a SafeLoader
        scale = float(scales[scene][video]["scale"])
    except OSError as error:
        raise InputError(f"{path}: cannot be read, and pixels need a scale: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise InputError(f"{path}: no scale of {scene}: {video} in it") from error
    if not 0 < scale < 1:
        raise InputError(f"{path}: the scale of {scene}: {video} is not in metres per pixel: {scale}")
    return scale
