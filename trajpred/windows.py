"""Recordings cut into fixed windows on a time grid, as the benchmarks define them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trajpred.config import Protocol
from trajpred.errors import InputError
from trajpred.types import Bool, Float, Ids, Int, Scene


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Agents at moments. A moment is one scene at one grid time; its agents are one group.

    T = protocol.observe + protocol.predict grid steps, the first `observe` of them history. Rows are
    all agents seen at the last history step: those with a complete window are `target` (scored,
    trained on), the others are there as neighbours, with what they have.

    group (A,) moment of each row, ascending; scene (A,) index into scene_names; stamp_ns (A,) time of
    the last history step; ids (A,); label (A,); xy (A, T, 2) m; valid (A, T) observed;
    yaw, yaw_valid (A, T); velocity (A, T, 2), velocity_valid (A, T); target (A,);
    m_per_px (A,) NaN where the source was not annotated in pixels.
    """

    protocol: Protocol
    scene_names: tuple[str, ...]
    group: Int
    scene: Int
    stamp_ns: Int
    ids: Ids
    label: NDArray[np.uint8]
    xy: Float
    valid: Bool
    yaw: Float
    yaw_valid: Bool
    velocity: Float
    velocity_valid: Bool
    target: Bool
    m_per_px: Float

    def __len__(self) -> int:
        return len(self.group)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Windows:
        """The same moments with only some of their rows; group numbers are kept."""
        kept = {
            f.name: getattr(self, f.name)[rows]
            for f in fields(self)
            if f.name not in ("protocol", "scene_names")
        }
        return Windows(protocol=self.protocol, scene_names=self.scene_names, **kept)
