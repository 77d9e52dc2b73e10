"""How agents, their paths and the road look, in pictures, animations and the viewer alike.

The class of an agent is told by a colour of Okabe and Ito (2008) and by a marker, so that neither is needed
for it: orange for motor vehicles, green for what has two wheels, purple for those on foot, grey for the
rest. Paths keep the blues of the still pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from trajpred.figures import GREY
from trajpred.geometry import rotate
from trajpred.lanes import Lanes
from trajpred.types import Float, Label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORANGE, GREEN, PURPLE = "#E69F00", "#009E73", "#CC79A7"


class Look(NamedTuple):
    """A colour, and a marker of matplotlib."""

    colour: str
    marker: str


LOOKS = {
    Label.UNKNOWN: Look(GREY, "X"),
    Label.CAR: Look(ORANGE, "s"),
    Label.TRUCK: Look(ORANGE, "D"),
    Label.BUS: Look(ORANGE, "p"),
    Label.TRAILER: Look(ORANGE, "h"),
    Label.MOTORCYCLE: Look(GREEN, "v"),
    Label.BICYCLE: Look(GREEN, "^"),
    Label.PEDESTRIAN: Look(PURPLE, "o"),
    Label.ANIMAL: Look(PURPLE, "*"),
    Label.HAZARD: Look(GREY, "P"),
    Label.OVER_DRIVABLE: Look(GREY, "d"),
    Label.UNDER_DRIVABLE: Look(GREY, "8"),
}

LINES = {
    "lane_edge": ("#9A9A9A", 0.9, "-"),
    "lane_centre": ("#BDBDBD", 0.7, (0, (6, 5))),
    "bicycle_lane": (GREEN, 0.8, (0, (4, 2))),
    "crosswalk": ("#7A7A7A", 2.6, (0, (0.6, 0.6))),
    "kerb": ("#6E6E6E", 1.3, "-"),
    "stop_line": ("#7A7A7A", 2.0, "-"),
}
"""Kind of a line -> colour, width in pt, dashes as matplotlib has them."""
OTHER_LINE = ("#BDBDBD", 0.7, "-")
AREAS = {"road": "#EDEDED", "sidewalk": "#F7F4EE", "building": "#D9D2C7", "parking": "#E4E8EE"}
OTHER_AREA = "#F2F2F2"


def shorten(text: str, characters: int) -> str:
    """One line; the middle is left out of a long one, since names differ at their ends."""
    text = " ".join(text.split())
    half = (characters - 1) // 2
    return text if len(text) <= characters else f"{text[:half]}…{text[-half:]}"


def name_of(label: int) -> str:
    """A class in words."""
    return Label(label).name.lower().replace("_", " ")


def id_text(name: bytes) -> str:
    """An id of a data set as its number, a UUID as 32 hexadecimal digits."""
    number = int.from_bytes(name.ljust(16, b"\0"), "big")
    return str(number) if number < 1 << 63 else f"{number:032x}"


def short_id(name: bytes) -> str:
    """The same with only the first digits of a UUID."""
    text = id_text(name)
    return text[:8] if len(text) == 32 else text


def outlines(xy: ArrayLike, heading: ArrayLike, size: ArrayLike) -> Float:
    """The corners (N, 4, 2) m of footprints with centres xy (N, 2) m, heading (N,) rad, size (N, 2) m.

    size is length and width; the first two corners are the front ones.
    """
    corners = np.array([[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [-0.5, 0.5]])
    scaled = corners * np.asarray(size, np.float64)[:, None]
    placed: Float = np.asarray(xy)[:, None] + rotate(scaled, np.asarray(heading, np.float64)[:, None])
    return placed


def share_of_top(probability: Float) -> Float:
    """(K,) of the most probable of K paths, what widths and alphas grow with: it has 1."""
    share: Float = probability / max(float(probability.max()), float(np.finfo(np.float64).tiny))
    return share


def draw_lanes(axes: Axes, lanes: Lanes, origin: ArrayLike = (0.0, 0.0)) -> None:
    """The road below everything else; origin (2,) m becomes (0, 0). The limits stay as they are."""
    from matplotlib.collections import LineCollection, PolyCollection

    origin = np.asarray(origin, np.float64)
    if lanes.areas:
        faces = [AREAS.get(area.kind, OTHER_AREA) for area in lanes.areas]
        shapes = [area.outline - origin for area in lanes.areas]
        axes.add_collection(PolyCollection(shapes, facecolors=faces, linewidths=0, zorder=0.2), autolim=False)
    if lanes.lines:
        looks = [LINES.get(line.kind, OTHER_LINE) for line in lanes.lines]
        drawn = LineCollection(
            [line.points - origin for line in lanes.lines],
            colors=[colour for colour, _, _ in looks],
            linewidths=[width_pt for _, width_pt, _ in looks],
            linestyles=[dashes for _, _, dashes in looks],
            capstyle="butt",
            zorder=0.8,
        )
        axes.add_collection(drawn, autolim=False)
