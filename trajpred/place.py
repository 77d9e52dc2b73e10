"""A place that a model knows: where in it an agent is, and how it faces, tells where it goes from there.

Shapes: M agents, P = len(PLACE). Positions are in the place's coordinate frame. docs/decisions/0019-place.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trajpred.types import Bool, Float, Float32, Int

OCTAVES = 4
PLACE = (
    "known",  # 1 where the agent is in the place that the model knows: all others are known
    "heading_sin",
    "heading_cos",
    "heading_2_sin",  # of twice the heading: there and back are the same street
    "heading_2_cos",
    # Waves over the place, the longest as long as it is wide, each half as long as the one before.
    *(f"{axis}_{2**octave}_{of}" for octave in range(OCTAVES) for axis in "xy" for of in ("sin", "cos")),
)
"""Names of what a model is told of where an agent is."""

CELL_M, SECTORS = 4.0, 8
"""How near, and how nearly facing the same way, training must have seen somebody for a pose to be known."""
_SIDE = 2**20
"""Squares from one end to the other: those of 4000 km."""
CELLS = 256 * SECTORS * _SIDE**2
"""Numbers that a cell can have: of every label, sector and square."""


@dataclass(frozen=True, slots=True)
class Place:
    """The coordinate frame that a place lies in, its middle, how far it reaches, m, and where it is known.

    seen: ascending, the numbers of the cells in which training saw somebody: a cell is a label, a square of
    CELL_M and a sector of headings.
    """

    frame_id: str
    x_m: float
    y_m: float
    reach_m: float
    seen: tuple[int, ...]

    @classmethod
    def of(cls, frame_id: str, xy: Float, heading: Float, label: NDArray[np.uint8]) -> Place:
        """From the poses of M agents, at least one: xy (M, 2) m, heading (M,) rad, label (M,)."""
        low, high = xy.min(axis=0), xy.max(axis=0)
        middle = (low + high) / 2.0
        reach = max(float(np.hypot(*(xy - middle).T).max()), CELL_M)
        bare = cls(frame_id, float(middle[0]), float(middle[1]), reach, ())
        return bare.seeing(xy, heading, label)

    def seeing(self, xy: Float, heading: Float, label: NDArray[np.uint8]) -> Place:
        """The same place, known also where these agents are; shapes as in `of`."""
        return replace(self, seen=tuple(sorted({*self.seen, *self._cells(xy, heading, label).tolist()})))

    def knows(self, xy: Float, heading: Float, label: NDArray[np.uint8]) -> Bool:
        """(M,) whether training saw somebody of the same class there who faced the same way."""
        cells, seen = self._cells(xy, heading, label), _array(self.seen)
        known: Bool = seen[np.searchsorted(seen, cells)] == cells
        return known

    def waves(self, xy: Float, heading: Float) -> Float32:
        """(M, P) what a model is told of agents at xy (M, 2) m with heading (M,) rad, if they are known."""
        ahead = (xy - (self.x_m, self.y_m)) / self.reach_m
        octaves = np.pi * 2.0 ** np.arange(OCTAVES)
        phase = (octaves[:, None] * ahead[:, None]).reshape(len(xy), 2 * OCTAVES)
        phase = np.concatenate([heading[:, None], 2.0 * heading[:, None], phase], axis=1)
        told = np.ones((len(xy), len(PLACE)), np.float32)
        told[:, 1::2], told[:, 2::2] = np.sin(phase), np.cos(phase)
        return told

    def whereabouts(self, xy: Float, heading: Float, label: NDArray[np.uint8]) -> Float32:
        """(M, P) what a model is told: the waves, all 0 for who is not known; shapes as in `of`."""
        return np.where(self.knows(xy, heading, label)[:, None], self.waves(xy, heading), np.float32(0.0))

    def _cells(self, xy: Float, heading: Float, label: NDArray[np.uint8]) -> Int:
        """(M,) the number of the cell that each is in; the outermost squares have no end."""
        square = np.floor((xy - (self.x_m, self.y_m)) / CELL_M) + _SIDE // 2
        column, row = square.clip(0, _SIDE - 1).astype(np.int64).T
        sector = np.floor(heading * (SECTORS / (2.0 * np.pi)) + 0.5).astype(np.int64) % SECTORS
        cell: Int = ((label.astype(np.int64) * SECTORS + sector) * _SIDE + column) * _SIDE + row
        return cell


def nowhere(agents: int) -> Float32:
    """(M, P) what a model is told of so many agents of whom nothing is known."""
    return np.zeros((agents, len(PLACE)), np.float32)


@lru_cache(maxsize=8)
def _array(seen: tuple[int, ...]) -> Int:
    """Ascending, with a last one that no cell has, so that there is always one to compare with."""
    return np.array([*seen, CELLS], np.int64)
